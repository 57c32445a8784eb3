//! The page of the admin side: what it shows, what it escapes, who may do what.

mod changes;
mod hostile;
mod shown;
mod signing_in;

use http::Method;

use crate::support::client::{Answer, Client};
use crate::support::mirror::Mirror;

const TOKEN: &str = "right-token";
const NOWHERE: &str = "[upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\n";

/// A browser: it sends where its pages are from, and the cookie that it was given.
struct Browser {
    client: Client,
    origin: String,
    cookie: Option<String>,
}

impl Browser {
    fn new(mirror: &Mirror) -> Self {
        let origin = format!("http://127.0.0.1:{}", mirror.admin.port());
        Self { client: Client::new(([127, 0, 0, 1], mirror.admin.port()).into()), origin, cookie: None }
    }

    async fn signed_in(mirror: &Mirror) -> Self {
        let mut browser = Self::new(mirror);
        let answer = browser.post("/sign-in", &[("token", TOKEN)]).await;
        assert_eq!((answer.status, answer.header("location")), (303, "/"), "{}", answer.text());
        browser.cookie = answer.header("set-cookie").split(';').next().map(str::to_owned);
        browser
    }

    async fn get(&self, path: &str) -> Answer {
        let cookie = self.cookie.as_deref().map(|cookie| ("cookie", cookie));
        self.client.send(Method::GET, path, cookie.as_slice()).await
    }

    /// A form of a page of this server.
    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_from(path, fields, &[("origin", &self.origin)]).await
    }

    /// A form, with what the browser says of where it is from.
    async fn post_from(&self, path: &str, fields: &[(&str, &str)], from: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let cookie = self.cookie.as_deref().map(|cookie| ("cookie", cookie));
        let headers = [from, cookie.as_slice(), &[("content-type", "application/x-www-form-urlencoded")]].concat();
        self.client.post(path, &headers, body).await
    }
}

/// A mirror with a token, in front of `upstreams`.
async fn with_token(upstreams: impl Into<String>, admin_listen: &str) -> (Mirror, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let lines = format!("admin_token_file = \"{}\"", file.display());
    (Mirror::builder(upstreams).admin_listen(admin_listen).server(&lines).start().await, directory)
}
