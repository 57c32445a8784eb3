//! The API is what its description says, and no page of another site can use it.

use http::Method;
use serde_json::{Value, json};

use super::{Site, api, over_socket};
use crate::support::client::{Client, raw};
use crate::support::mirror::Mirror;

/// Where the value is not what the schema says; `None` if it is.
fn differs(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        return differs(document, document.pointer(&name[1..]).unwrap(), value, at);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let none = any.iter().all(|schema| differs(document, schema, value, at).is_some());
        return none.then(|| format!("{at}: {value} is none of {schema}"));
    }
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("{kind}"),
    };
    let kinds = &schema["type"];
    let kinds = kinds.as_array().map_or(std::slice::from_ref(kinds), Vec::as_slice);
    let is_of_kind = kinds.iter().any(|kind| is(kind.as_str().unwrap()));
    if !is_of_kind {
        return Some(format!("{at}: {value} is no {}", schema["type"]));
    }
    if let Some(known) = schema["enum"].as_array().filter(|known| !known.contains(value)) {
        return Some(format!("{at}: {value} is none of {known:?}"));
    }
    for (nth, item) in value.as_array().into_iter().flatten().enumerate() {
        if let Some(wrong) = differs(document, &schema["items"], item, &format!("{at}[{nth}]")) {
            return Some(wrong);
        }
    }
    let members = value.as_object()?;
    for required in schema["required"].as_array().into_iter().flatten() {
        if !members.contains_key(required.as_str().unwrap()) {
            return Some(format!("{at}: {required} is missing"));
        }
    }
    for (key, member) in members {
        let others = &schema["additionalProperties"];
        let known = schema["properties"].get(key).or(others.as_object().map(|_| others));
        let wrong = match known {
            Some(schema) => differs(document, schema, member, &format!("{at}.{key}")),
            None => (*others == json!(false)).then(|| format!("{at}: {key} is not described")),
        };
        if wrong.is_some() {
            return wrong;
        }
    }
    None
}

/// An archive that is none.
async fn upload(mirror: &Mirror, target: &str) -> (u16, Value) {
    let head = "Host: localhost\r\nConnection: close\r\nContent-Type: application/x-tar\r\nContent-Length: 4";
    let (target, socket) = (target.to_owned(), mirror.storage().join("admin.sock"));
    let asked = tokio::task::spawn_blocking(move || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        stream.write_all(format!("POST /api/v1/{target} HTTP/1.1\r\n{head}\r\n\r\nnone").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = asked.await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn every_described_call_is_called_and_answers_as_described() {
    let site = Site::start().await;
    let (status, document) = api(&site.mirror, "openapi.json").await;
    assert_eq!((status, &document["openapi"]), (200, &"3.1.0".into()));
    let order = json!({ "references": ["org/app:amd64"] });
    let begin = async |call| {
        let (_, begun) = over_socket(&site.mirror, "POST", call, &order).await;
        begun["job"]["id"].as_str().unwrap().to_owned()
    };
    let (exported, cancelled) = (begin("export").await, begin("warm").await);
    crate::support::eventually("the export is ready", async || {
        let (_, export) = api(&site.mirror, &format!("jobs/{exported}")).await;
        export["job"]["parts"].as_array().is_some_and(|parts| !parts.is_empty())
    })
    .await;
    let mut called = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        // What removes comes last of a path's methods.
        for (method, call) in methods.as_object().unwrap().iter().rev().collect::<Vec<_>>().into_iter().rev() {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            for parameter in call["parameters"].as_array().into_iter().flatten() {
                let example = &parameter["example"];
                for value in example.as_array().map_or(std::slice::from_ref(example), Vec::as_slice) {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    if !value.is_null() {
                        query.append_pair(parameter["name"].as_str().unwrap(), &text);
                    }
                }
            }
            let job = if path.ends_with("/cancel") { &cancelled } else { &exported };
            let path = path.trim_start_matches('/').replace("{id}", job);
            let target = format!("{path}?{}", query.finish());
            let body = call.pointer("/requestBody/content/application~1json/example").unwrap_or(&Value::Null);
            if method == "delete" {
                let (status, _) = over_socket(&site.mirror, "POST", &target, body).await;
                assert_eq!(status, 200, "there is something to take back");
            }
            let (status, answer) = if call.pointer("/requestBody/content/application~1octet-stream").is_some() {
                upload(&site.mirror, &target).await
            } else {
                over_socket(&site.mirror, &method.to_uppercase(), &target, body).await
            };
            called += 1;
            let described = &call["responses"][status.to_string()];
            assert!(described.is_object(), "{method} {target}: {status} is not described: {answer}");
            let Some(schema) = described.pointer("/content/application~1json/schema") else { continue };
            if let Some(wrong) = differs(&document, schema, &answer, "") {
                panic!("{method} {target}: {wrong} in {answer:#}");
            }
        }
    }
    assert!(called >= 17, "{called}");
    for (query, status) in [("inspect?reference=A", 400), ("inspect?reference=org/none", 404), ("nothing", 404)] {
        let (answered, refused) = api(&site.mirror, query).await;
        let schema = json!({ "$ref": "#/components/schemas/Error" });
        assert_eq!((answered, differs(&document, &schema, &refused, "")), (status, None), "{query}");
    }
}

#[tokio::test]
async fn t70_a_page_of_another_site_can_neither_read_nor_change() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "right-token\n").unwrap();
    let lines = format!("admin_token_file = \"{}\"", token.display());
    let toml = "[upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\n";
    let mirror = Mirror::builder(toml).server(&lines).start().await;
    let admin = Client::new(mirror.admin);
    let own = format!("http://{}", mirror.admin);
    let pin = "/api/v1/pins?pin=docker.io/a";
    for (headers, allowed) in [
        (&[][..], true),
        (&[("origin", own.as_str())][..], true),
        (&[("origin", own.as_str()), ("sec-fetch-site", "same-origin")][..], true),
        (&[("sec-fetch-site", "none")][..], true),
        (&[("origin", "http://evil.test")][..], false),
        (&[("origin", "null")][..], false),
        (&[("origin", "http://127.0.0.1:1")][..], false),
        (&[("sec-fetch-site", "cross-site")][..], false),
        (&[("sec-fetch-site", "same-site")][..], false),
    ] {
        let headers = [headers, &[("authorization", "Bearer right-token")]].concat();
        for (method, path) in [(Method::POST, pin), (Method::GET, "/api/v1/status")] {
            let answer = admin.send(method, path, &headers).await;
            assert_eq!(answer.status, if allowed { 200 } else { 403 }, "{headers:?}: {}", answer.text());
            if !allowed {
                assert_eq!(answer.json()["error"]["code"], "cross_site");
            }
        }
    }
    let named = raw(mirror.admin, "GET /api/v1/status HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n").await;
    assert!(named.contains(" 421 "), "{named}");
}

#[tokio::test]
async fn t71_a_body_that_a_form_can_send_is_refused() {
    let site = Site::start().await;
    let body = r#"{"references":["org/app:1"]}"#;
    for (kind, status) in [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
    ] {
        let request = format!(
            "POST /api/v1/coverage HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = raw(site.mirror.admin, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{kind}: {answer}");
    }
}

#[tokio::test]
async fn t73_a_body_that_is_wrong_is_refused_and_nothing_is_done() {
    let site = Site::start().await;
    let many: Vec<String> = (0..1001).map(|nth| format!("org/app:{nth}")).collect();
    for (order, status, code) in [
        (json!([]), 400, "invalid"),
        (json!({}), 400, "invalid"),
        (json!({ "references": "org/app" }), 400, "invalid"),
        (json!({ "references": ["org/app"], "dryrun": true }), 400, "invalid"),
        (json!({ "references": many }), 400, "invalid"),
        (json!({ "references": ["x".repeat(5_000_000)] }), 413, "too_large"),
    ] {
        let (answered, refused) = over_socket(&site.mirror, "POST", "remove", &order).await;
        assert_eq!((answered, &refused["error"]["code"]), (status, &code.into()), "{refused}");
    }
    assert_eq!(api(&site.mirror, "repositories").await.1["total"], 2);
    let (status, refused) = over_socket(&site.mirror, "POST", "remove?force=1", &json!({ "references": ["x"] })).await;
    assert_eq!((status, &refused["error"]["code"]), (400, &"invalid".into()));
}
