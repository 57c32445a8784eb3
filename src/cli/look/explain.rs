//! Which rule decides what an identity may read, by the configuration alone.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;
use roadstead::mirror::{Claims, DOCKER_HUB, Target};
use roadstead::oci::PinPattern;
use roadstead::server::{AccessSettings, Asked, Asker, Decision, Rule, decide, groups_of};

use crate::cli::output::{failed, print};
use crate::cli::reach::ConfigFile;

#[derive(Debug, Args)]
pub(in crate::cli) struct Question {
    /// The name of a user or a key, "certificate:NAME" for a client with a certificate, or "anonymous" for one that shows nothing.
    #[arg(long = "as", value_name = "NAME")]
    name: String,
    /// A group that its token names; may be given several times. Those of `[access.groups]` are known.
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// The address that it comes from; without it, no `network:` matches.
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// What it asks for, as "docker.io/library/app:1" or "quay.io/org/app@sha256:…"; a repository alone asks for its tags.
    #[arg(value_name = "REF")]
    reference: String,
}

pub(in crate::cli) fn run(file: &ConfigFile, question: &Question) -> Result<(), ExitCode> {
    let config = file.read_without_secrets()?;
    let (name, wanted) = split(&question.reference);
    let default = DOCKER_HUB.parse().map_err(|_never| failed("Docker Hub has no name"))?;
    let target = config.namespaces.resolve(&Claims { name, ..Claims::default() }, &default);
    let target = target.map_err(|err| failed(&format!("{}: {err}", question.reference)))?;
    let says = config.server.access.as_ref().map(|access| explain(access, question, &target, wanted));
    let (by_rules, mut lines) = says.unwrap_or_else(|| (true, vec!["there is no [access]: all may read".to_owned()]));
    let policy = config.upstreams.iter().find(|upstream| upstream.upstream.name == target.authority.as_str());
    let by_upstream = policy.is_none_or(|upstream| upstream.policy.allows(&target.repository));
    if !by_upstream {
        lines.push(format!("`allow`, `deny` of upstreams.\"{}\" refuse the repository to all", target.authority));
    }
    let is_allowed = by_rules && by_upstream;
    let Target { authority, repository, .. } = &target;
    let what = match wanted {
        Asked::Tag(tag) => format!("{authority}/{repository}:{tag}"),
        Asked::Content => format!("content of {authority}/{repository} by its digest"),
        Asked::Tags => format!("the tags of {authority}/{repository}"),
    };
    let verdict = if is_allowed { "allowed" } else { "refused" };
    print(&format!("{} is {verdict} {what}", question.name));
    for line in &lines {
        print(&format!("  {line}"));
    }
    if is_allowed { Ok(()) } else { Err(ExitCode::FAILURE) }
}

/// The name in front of a tag or a digest, and what of it is wanted.
fn split(reference: &str) -> (&str, Asked<'_>) {
    if let Some((name, _digest)) = reference.split_once('@') {
        return (
            name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(name, _)| name),
            Asked::Content,
        );
    }
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Asked::Tag(tag)),
        _ => (reference, Asked::Tags),
    }
}

/// Whether the rules allow it, and what each rule says up to the one that decides.
fn explain(access: &AccessSettings, question: &Question, target: &Target, wanted: Asked<'_>) -> (bool, Vec<String>) {
    let certificate = question.name.strip_prefix("certificate:").map(|name| [name.to_owned()]);
    let user = (certificate.is_none() && question.name != "anonymous").then_some(question.name.as_str());
    let certificate = certificate.as_ref().map(<[String; 1]>::as_slice);
    let configured = groups_of(&access.groups, &question.name);
    let groups = [configured.as_slice(), question.groups.as_slice()];
    let asker = Asker { user, has_anonymous: access.anonymous, address: question.from, certificate, groups };
    let Target { authority, repository, .. } = target;
    let decision = decide(&access.rules, &asker, authority, repository, wanted);
    let decider = match decision {
        Decision::Rule { at, .. } => at,
        Decision::NoRules | Decision::NoneMatches => access.rules.len(),
    };
    let passed = |(at, rule): (usize, &Rule)| {
        let why = if rule.is_about(&asker) { "`what` does not match" } else { "`who` does not match" };
        format!("access.rules[{at}]: {why}")
    };
    let mut lines: Vec<String> = access.rules.iter().enumerate().take(decider).map(passed).collect();
    lines.extend(access.rules.get(decider).map(|rule| {
        let who = rule.who.iter().filter(|who| who.matches(&asker)).map(ToString::to_string).collect::<Vec<_>>();
        let what = rule.covering(authority, repository, wanted).map(PinPattern::as_str).collect::<Vec<_>>();
        format!("access.rules[{decider}] decides: {}, {}, allow = {}", who.join(", "), what.join(", "), rule.allow)
    }));
    match decision {
        Decision::NoRules => lines.push("there are no access.rules: whoever is let in reads everything".to_owned()),
        Decision::NoneMatches => lines.push("no rule matches, so it is refused".to_owned()),
        Decision::Rule { .. } => {}
    }
    // Without a rule that allows its network, it is not let in at all.
    let is_let_in =
        user.is_some() || certificate.is_some() || access.anonymous || matches!(decision, Decision::Rule { .. });
    if !is_let_in {
        lines.push("`anonymous = false`: a client that shows nothing is not let in".to_owned());
    }
    (decision.is_allowed() && is_let_in, lines)
}
