//! What registries send when a tag was pushed. What is not needed is skipped without being built.
//!
//! - Docker Hub: `push_data.tag` and `repository.repo_name`.
//! - distribution and its kin (notifications, version 1): `events[]` with `action` and `target`; in a `CloudEvent` of Azure
//!   Container Registry, one of them as `data`.
//! - Harbor: `event_data.resources[]`; as a `CloudEvent`, `data.resources[]`.
//! - Quay: `docker_url` and `updated_tags`.
//! - GitHub packages: `registry_package`.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::jobs::Refused;
use crate::mirror::DOCKER_HUB;
use crate::oci::{Authority, ImageName, Repository, Tag};

/// Most tags of one notification. Further ones are left to `tag_ttl`.
const MAX_TAGS: usize = 200;
const GITHUB: &str = "ghcr.io";

#[derive(Deserialize)]
struct Payload {
    push_data: Option<PushData>,
    repository: Option<Named>,
    events: Option<Vec<Event>>,
    event_data: Option<HarborData>,
    data: Option<CloudData>,
    docker_url: Option<String>,
    #[serde(default)]
    updated_tags: Vec<String>,
    registry_package: Option<GithubPackage>,
}

#[derive(Deserialize)]
struct PushData {
    tag: Option<String>,
}

/// Docker Hub has an object, Quay a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    Object { repo_name: Option<String> },
    Other(IgnoredAny),
}

#[derive(Deserialize)]
struct Event {
    action: Option<String>,
    target: Option<EventTarget>,
    request: Option<EventRequest>,
}

#[derive(Deserialize)]
struct EventTarget {
    repository: Option<String>,
    tag: Option<String>,
}

#[derive(Deserialize)]
struct EventRequest {
    host: Option<String>,
}

#[derive(Deserialize)]
struct HarborData {
    #[serde(default)]
    resources: Vec<HarborResource>,
}

#[derive(Deserialize)]
struct HarborResource {
    resource_url: Option<String>,
    tag: Option<String>,
}

/// The `data` of a `CloudEvent`.
#[derive(Deserialize)]
struct CloudData {
    #[serde(default)]
    resources: Vec<HarborResource>,
    action: Option<String>,
    target: Option<EventTarget>,
    request: Option<EventRequest>,
}

#[derive(Deserialize)]
struct GithubPackage {
    namespace: Option<String>,
    name: Option<String>,
    package_version: Option<GithubVersion>,
}

#[derive(Deserialize)]
struct GithubVersion {
    container_metadata: Option<GithubContainer>,
}

#[derive(Deserialize)]
struct GithubContainer {
    tag: Option<GithubTag>,
}

#[derive(Deserialize)]
struct GithubTag {
    name: Option<String>,
}

/// A registry, a repository and a tag as a notification names them.
type Words<'a> = (Option<&'a str>, Cow<'a, str>, &'a str);

/// The tags that a notification names. `registry` stands for the registry that it names, if any.
pub(super) fn moved_tags(body: &[u8], registry: Option<&Authority>) -> Result<Vec<ImageName>, Refused> {
    let payload: Payload =
        serde_json::from_slice(body).map_err(|err| Refused::invalid(format!("the body is no notification: {err}")))?;
    let words = payload.words();
    if !payload.is_known() {
        return Err(Refused::invalid(
            "the body is no notification of Docker Hub, distribution, Harbor, Quay, GitHub, or as a CloudEvent",
        ));
    }
    let name = |(host, repository, tag): Words<'_>| {
        let authority = match registry {
            Some(registry) => registry.clone(),
            None => host?.parse().ok()?,
        };
        let (repository, tag) = (repository.parse::<Repository>().ok()?, tag.parse::<Tag>().ok()?);
        Some(ImageName { authority, repository, tag: Some(tag), digest: None })
    };
    Ok(words.into_iter().filter_map(name).take(MAX_TAGS).collect())
}

impl Payload {
    const fn is_known(&self) -> bool {
        self.push_data.is_some()
            || self.events.is_some()
            || self.event_data.is_some()
            || self.data.is_some()
            || self.docker_url.is_some()
            || self.registry_package.is_some()
    }

    fn words(&self) -> Vec<Words<'_>> {
        let mut words = Vec::new();
        if let (Some(PushData { tag: Some(tag) }), Some(Named::Object { repo_name: Some(name) })) =
            (&self.push_data, &self.repository)
        {
            words.push((Some(DOCKER_HUB), name.into(), tag.as_str()));
        }
        words.extend(self.events.iter().flatten().filter_map(Event::words));
        words.extend(self.event_data.iter().flat_map(|data| &data.resources).filter_map(HarborResource::words));
        if let Some(CloudData { resources, action, target, request }) = &self.data {
            words.extend(pushed(action.as_deref(), target.as_ref(), request.as_ref()));
            words.extend(resources.iter().filter_map(HarborResource::words));
        }
        if let Some((host, repository)) = self.docker_url.as_deref().and_then(|url| url.split_once('/')) {
            words.extend(self.updated_tags.iter().map(|tag| (Some(host), repository.into(), tag.as_str())));
        }
        words.extend(self.registry_package.as_ref().and_then(GithubPackage::words));
        words
    }
}

impl Event {
    fn words(&self) -> Option<Words<'_>> {
        pushed(self.action.as_deref(), self.target.as_ref(), self.request.as_ref())
    }
}

fn pushed<'a>(
    action: Option<&str>,
    target: Option<&'a EventTarget>,
    request: Option<&'a EventRequest>,
) -> Option<Words<'a>> {
    let target = target.filter(|_| matches!(action, Some("push" | "delete")))?;
    let host = request.and_then(|request| request.host.as_deref());
    Some((host, target.repository.as_deref()?.into(), target.tag.as_deref()?))
}

impl HarborResource {
    /// `resource_url` is `host/project/repository:tag`.
    fn words(&self) -> Option<Words<'_>> {
        let (host, path) = self.resource_url.as_deref()?.split_once('/')?;
        let repository = path.split_once(['@', ':']).map_or(path, |(repository, _)| repository);
        Some((Some(host), repository.into(), self.tag.as_deref()?))
    }
}

impl GithubPackage {
    fn words(&self) -> Option<Words<'_>> {
        let tag = self.package_version.as_ref()?.container_metadata.as_ref()?.tag.as_ref()?;
        let repository = format!("{}/{}", self.namespace.as_deref()?, self.name.as_deref()?).to_ascii_lowercase();
        Some((Some(GITHUB), repository.into(), tag.name.as_deref()?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(body: &Value, registry: Option<&str>) -> Vec<String> {
        let registry = registry.map(|name| name.parse().unwrap());
        let names = moved_tags(body.to_string().as_bytes(), registry.as_ref()).unwrap();
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn notifications_of_every_kind_name_their_tags() {
        let hub = json!({"push_data": {"tag": "latest", "pushed_at": 1, "pusher": "a"}, "callback_url": "https://x",
            "repository": {"repo_name": "org/app", "name": "app", "namespace": "org", "status": "Active"}});
        assert_eq!(read(&hub, None), ["docker.io/org/app:latest"]);
        let event = json!({"id": "1", "action": "push", "request": {"host": "registry.corp:5000", "method": "PUT"},
            "target": {"repository": "team/app", "tag": "2", "digest": "sha256:x", "size": 5}});
        let pull = json!({"action": "pull", "target": {"repository": "team/app", "tag": "3"}});
        let distribution = json!({"events": [event, pull, {"action": "push", "target": {"repository": "team/app"}}]});
        assert_eq!(read(&distribution, None), ["registry.corp:5000/team/app:2"]);
        assert_eq!(read(&distribution, Some("corp")), ["corp/team/app:2"]);
        let resource = json!({"digest": "sha256:x", "tag": "1", "resource_url": "harbor.corp/project/deep/app:1"});
        let harbor = json!({"type": "PUSH_ARTIFACT", "occur_at": 5, "event_data": {"resources": [resource], "repository": {"name": "app"}}});
        assert_eq!(read(&harbor, None), ["harbor.corp/project/deep/app:1"]);
        let cloud = |data: Value| json!({"specversion": "1.0", "type": "t", "source": "/s", "id": "1", "data": data});
        assert_eq!(read(&cloud(json!({"resources": [resource]})), None), ["harbor.corp/project/deep/app:1"]);
        assert_eq!(read(&cloud(event), None), ["registry.corp:5000/team/app:2"]);
        let quay = json!({"name": "app", "repository": "org/app", "namespace": "org", "docker_url": "quay.io/org/app",
            "homepage": "https://quay.io", "updated_tags": ["latest", "v1"]});
        assert_eq!(read(&quay, None), ["quay.io/org/app:latest", "quay.io/org/app:v1"]);
        let github = json!({"action": "published", "registry_package": {"namespace": "Org", "name": "app",
            "package_version": {"container_metadata": {"tag": {"name": "main", "digest": "sha256:x"}}}}});
        assert_eq!(read(&github, None), ["ghcr.io/org/app:main"]);
    }

    #[test]
    fn what_is_no_notification_is_said_and_wrong_names_are_passed_over() {
        for wrong in [json!([]), json!({}), json!({"repository": "a"}), json!({"events": 5}), json!("push_data")] {
            assert!(moved_tags(wrong.to_string().as_bytes(), None).is_err(), "{wrong}");
        }
        let odd = json!({"docker_url": "quay.io/../x", "updated_tags": ["1"]});
        assert_eq!(read(&odd, None), Vec::<String>::new());
        let many = json!({"docker_url": "quay.io/org/app", "updated_tags": vec!["1"; 1000]});
        assert_eq!(read(&many, None).len(), MAX_TAGS);
    }
}
