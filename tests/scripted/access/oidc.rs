//! Tokens that an issuer signs.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

use super::issuer::{Issuer, Mood, SigningKey, unsigned};
use super::{Guarded, basic, htpasswd, keys, login, rule};
use crate::support::client::Answer;
use crate::support::log::Log;

const APP: &str = "/v2/org/app/manifests/1";

struct Site {
    issuer: Issuer,
    key: SigningKey,
    guarded: Guarded,
}

impl Site {
    /// `more`: lines of `[access]` behind those of the issuer.
    async fn start(top: &str, more: &str) -> Self {
        let key = SigningKey::new("k1");
        let issuer = Issuer::start(&[&key]).await;
        let url = issuer.url();
        let guarded = Guarded::start(|files| {
            let issuer =
                format!("[[access.oidc]]\nissuer = \"{url}\"\naudience = \"roadstead\"\ngroups = \"groups\"\n");
            format!("anonymous = false\n{top}\n{}{}{issuer}{more}", htpasswd(files), keys(files))
        })
        .await;
        guarded.publish("org/app");
        guarded.publish("library/app");
        Self { issuer, key, guarded }
    }

    fn now(&self) -> u64 {
        self.guarded.mirror.clock.now().as_millis() / 1000
    }

    /// Good claims, with others in their place.
    fn claims(&self, others: Value) -> Value {
        let now = self.now();
        let mut claims = json!({
            "iss": self.issuer.url(), "aud": ["other", "roadstead"], "sub": "system:serviceaccount:ci:build",
            "exp": now + 600, "iat": now, "nbf": now, "groups": ["ci", "team-a"],
        });
        let Value::Object(others) = others else { panic!("{others}") };
        for (name, value) in others {
            let claims = claims.as_object_mut().unwrap();
            if value.is_null() {
                claims.remove(&name)
            } else {
                claims.insert(name, value)
            };
        }
        claims
    }

    fn good(&self) -> String {
        self.key.sign(&self.claims(json!({})))
    }

    async fn with(&self, path: &str, token: &str) -> Answer {
        self.guarded.get(path, &[("authorization", &format!("Bearer {token}"))]).await
    }
}

#[tokio::test]
async fn a_signed_token_reads_by_itself_and_as_a_password() {
    let log = Log::begin();
    let rules = rule("[\"user:system:serviceaccount:ci:*\"]", "[\"docker.io/org/*\"]", true);
    let site = Site::start("", &rules).await;
    let token = site.good();
    for shown in [format!("Bearer {token}"), basic("anybody", &token)] {
        for (path, status) in [(APP, 200), ("/v2/app/manifests/1", 403), ("/v2/", 200)] {
            assert_eq!(site.guarded.get(path, &[("authorization", &shown)]).await.status, status, "{path}");
        }
    }
    assert_eq!((site.issuer.asked("/keys"), site.issuer.asked("/.well-known/openid-configuration")), (1, 1));
    assert_eq!(site.guarded.get(APP, &[("authorization", &login("a"))]).await.status, 403, "logins go on beside it");
    let challenge = site.guarded.get(APP, &[]).await;
    assert_eq!((challenge.status, challenge.header("www-authenticate")), (401, "Basic realm=\"roadstead\""));
    let line = "roadstead_identity_requests_total{identity=\"system:serviceaccount:ci:build\",result=\"allowed\"}";
    assert_eq!(site.guarded.mirror.metric(line), 2.0);
    let text = log.text();
    assert!(text.contains("system:serviceaccount:ci:build") && text.contains("team-a"));
    assert!(!text.contains(&token) && !text.contains(token.rsplit('.').next().unwrap()));
}

#[tokio::test]
async fn a_signed_token_goes_through_the_token_dance_and_its_groups_with_it() {
    let rules = rule("[\"group:team-*\"]", "[\"docker.io/org/*\"]", true);
    let site = Site::start("token_server = true", &rules).await;
    let token = site.key.sign(&site.claims(json!({"exp": site.now() + 100})));
    let path = "/token?service=roadstead&scope=repository%3Aorg%2Fapp%3Apull";
    let answer = site.guarded.get(path, &[("authorization", &basic("x", &token))]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let issued = answer.json();
    assert!(issued["expires_in"].as_u64().unwrap() <= 160, "as long as its own, with a minute for clocks: {issued}");
    let own = issued["token"].as_str().unwrap();
    assert_eq!(site.with(APP, own).await.status, 200);
    assert_eq!(site.with("/v2/app/manifests/1", own).await.status, 403);
    site.guarded.mirror.advance(Duration::from_secs(170));
    assert_eq!(site.with(APP, own).await.status, 401, "it ends with the token that it was given for");
    assert_eq!(site.with(APP, &token).await.status, 401);
}

#[tokio::test]
async fn t141_tokens_that_are_forged_foreign_expired_or_of_the_future_are_refused() {
    let log = Log::begin();
    let site = Site::start("token_server = true", "").await;
    let (now, other) = (site.now(), SigningKey::new("k1"));
    let good = site.claims(json!({}));
    let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid});
    let none = format!("{}.", unsigned(&header("none", "k1"), &good));
    // Whoever takes the public key for a shared secret believes this one.
    let confused = |secret: &[u8]| {
        let signed = unsigned(&header("HS256", "k1"), &good);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let embedded = json!({"alg": "ES256", "kid": "mine", "jwk": other.jwk(), "jku": "http://127.0.0.1:1/keys"});
    let with = |claims: Value| site.key.sign(&site.claims(claims));
    let right = site.good();
    let (body, _) = right.rsplit_once('.').unwrap();
    for (why, token) in [
        ("alg: none", none),
        ("HS256 by the public key", confused(site.key.public())),
        ("HS256 by the public key as JSON", confused(site.key.jwk().to_string().as_bytes())),
        ("another algorithm than the key's", site.key.sign_as(&header("ES384", "k1"), &good)),
        ("a foreign kid", site.key.sign_as(&header("ES256", "k2"), &good)),
        ("no kid", site.key.sign_as(&json!({"alg": "ES256"}), &good)),
        ("a key that it brings along", other.sign_as(&embedded, &good)),
        ("another key of the same id", other.sign(&good)),
        ("no signature", format!("{body}.")),
        ("another audience", with(json!({"aud": "other"}))),
        ("no audience", with(json!({"aud": null}))),
        ("another issuer", with(json!({"iss": "https://evil.test"}))),
        ("two issuers", with(json!({"iss": ["https://evil.test", site.issuer.url()]}))),
        ("expired", with(json!({"exp": now - 70}))),
        ("no end", with(json!({"exp": null}))),
        ("an end that is no number", with(json!({"exp": "tomorrow"}))),
        ("not yet", with(json!({"nbf": now + 90}))),
        ("issued in the future", with(json!({"iat": now + 90}))),
        ("nobody's", with(json!({"sub": null}))),
        ("a user of the htpasswd file", with(json!({"sub": "a"}))),
        ("the name of a key", with(json!({"sub": "node"}))),
        ("anonymous", with(json!({"sub": "anonymous"}))),
        ("a certificate's name", with(json!({"sub": "certificate:n.corp"}))),
        ("a line of its own", with(json!({"sub": "x\ny"}))),
        ("too long", with(json!({"more": "x".repeat(20_000)}))),
    ] {
        assert_eq!(site.with(APP, &token).await.status, 401, "{why}");
        let as_password = site.guarded.get("/token", &[("authorization", &basic("x", &token))]).await;
        assert_eq!(as_password.status, 401, "{why}");
    }
    for (why, claims) in [
        ("within the leeway", json!({"exp": now - 30})),
        ("within the leeway", json!({"nbf": now + 30, "iat": now + 30})),
        ("one audience", json!({"aud": "roadstead"})),
        ("without the others", json!({"nbf": null, "iat": null, "groups": null})),
    ] {
        assert_eq!(site.with(APP, &with(claims)).await.status, 200, "{why}");
    }
    let text = log.text();
    assert!(text.contains("a token was refused"), "{text}");
    assert!(!text.contains(body), "no token is in the log");
    // A good one was remembered; that does not make it good for ever.
    assert_eq!(site.with(APP, &right).await.status, 200);
    site.guarded.mirror.advance(Duration::from_secs(700));
    assert_eq!(site.with(APP, &right).await.status, 401);
}

#[tokio::test]
async fn t142_keys_are_asked_for_once_a_minute_at_most_and_a_new_one_is_found() {
    let site = Site::start("", "").await;
    let next = SigningKey::new("k2");
    assert_eq!(site.with(APP, &site.good()).await.status, 200);
    for unknown in 0..20 {
        let foreign = SigningKey::new(&format!("x{unknown}"));
        assert_eq!(site.with(APP, &foreign.sign(&site.claims(json!({})))).await.status, 401);
    }
    assert_eq!(site.issuer.asked("/keys"), 1);
    site.issuer.set_keys(&[&next]);
    site.guarded.mirror.advance(Duration::from_mins(1));
    assert_eq!(site.with(APP, &next.sign(&site.claims(json!({})))).await.status, 200);
    assert_eq!(site.issuer.asked("/keys"), 2);
    let withdrawn = site.key.sign(&site.claims(json!({"jti": "2"})));
    assert_eq!(site.with(APP, &withdrawn).await.status, 401, "its key is not among them any more");
    site.guarded.mirror.advance(Duration::from_hours(2));
    assert_eq!(site.with(APP, &next.sign(&site.claims(json!({})))).await.status, 200);
    assert_eq!(site.issuer.asked("/keys"), 3, "keys are fetched again in time");
}

#[tokio::test]
async fn t142_an_issuer_that_is_away_huge_or_silent_costs_a_clear_answer_and_nobody_else() {
    let site = Site::start("", "").await;
    for mood in [Mood::Away, Mood::Huge, Mood::Silent] {
        site.issuer.set_mood(mood);
        let token = site.good();
        let all = (0..20).map(|_| site.with(APP, &token));
        for answer in futures_util::future::join_all(all).await {
            assert_eq!(answer.status, 503);
            assert!(answer.text().contains("the issuer of the token"), "{}", answer.text());
        }
        assert_eq!(site.guarded.get(APP, &[("authorization", &login("a"))]).await.status, 200);
        site.guarded.mirror.advance(Duration::from_mins(1));
    }
    assert_eq!(site.issuer.asked("/.well-known/openid-configuration"), 3);
    site.issuer.set_mood(Mood::Well);
    assert_eq!(site.with(APP, &site.good()).await.status, 200);
    // Its keys go on counting for a day.
    site.issuer.set_mood(Mood::Away);
    site.guarded.mirror.advance(Duration::from_hours(23));
    assert_eq!(site.with(APP, &site.good()).await.status, 200);
    site.guarded.mirror.advance(Duration::from_hours(2));
    assert_eq!(site.with(APP, &site.good()).await.status, 503);
}

#[tokio::test]
async fn groups_of_the_configuration_have_users_keys_and_bearers_of_tokens() {
    let more = "[access.groups]\nteam-b = [\"b\", \"no*\", \"system:serviceaccount:ci:*\"]\n".to_owned()
        + &rule("[\"group:team-b\"]", "[\"docker.io/org/*\"]", true);
    let site = Site::start("", &more).await;
    assert_eq!(site.with(APP, &site.good()).await.status, 200);
    let elsewhere = site.key.sign(&site.claims(json!({"sub": "system:serviceaccount:cd:x", "groups": "team-c"})));
    assert_eq!(site.with(APP, &elsewhere).await.status, 403);
    let by_token = site.key.sign(&site.claims(json!({"sub": "other", "groups": "team-b"})));
    assert_eq!(site.with(APP, &by_token).await.status, 200, "one group needs no list");
    for (login, status) in [(login("a"), 403), (login("b"), 200)] {
        assert_eq!(site.guarded.get(APP, &[("authorization", &login)]).await.status, status);
    }
    assert_eq!(site.guarded.get(APP, &[("x-roadstead-key", "node-secret-marker")]).await.status, 200);
}

#[test]
fn mistakes_about_issuers_and_groups_are_told_by_their_keys() {
    let toml = r#"
[access]
[[access.oidc]]
issuer = "http://issuer.test"
audience = []
jwks = "ftp://issuer.test"
nam = "sub"
[[access.oidc]]
[[access.oidc]]
issuer = "https://issuer.test"
audience = "a"
token_file = "/nonexistent/token"
[[access.oidc]]
issuer = "https://issuer.test"
audience = "b"
[access.groups]
a = "b"
c = ["d", "["]
"#;
    let problems = roadstead::config::Config::read(Some(toml), Vec::new()).err().unwrap().0;
    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    for key in [
        "access.oidc[0].issuer",
        "access.oidc[0].audience",
        "access.oidc[0].jwks",
        "access.oidc[0].nam",
        "access.oidc[1].issuer",
        "access.oidc[1].audience",
        "access.oidc[2].token_file",
        "access.oidc[3].issuer",
        "access.groups.a",
        "access.groups.c[1]",
    ] {
        assert!(keys.contains(&key), "{key} in {problems:?}");
    }
    assert_eq!(keys.len(), 10, "{problems:?}");
}
