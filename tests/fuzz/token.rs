//! The token server's answer.

use roadstead::upstream::TokenAnswer;

use crate::fuzz;
use crate::text::json_bytes;

const WORDS: &[&str] =
    &["token", "access_token", "expires_in", "issued_at", "abc.def", "", "\r\nx: y", "300", "refresh_token"];

#[test]
fn t11_a_token_fits_into_a_header_and_is_never_printed() {
    fuzz(|u| {
        let body = json_bytes(u, WORDS)?;
        let Some(answer) = TokenAnswer::read(&body) else { return Ok(()) };
        let token = answer.token.expose();
        assert!(!token.is_empty());
        assert!(http::HeaderValue::from_str(&format!("Bearer {token}")).is_ok());
        assert!(answer.life.as_secs() >= 60);
        assert!(format!("{answer:?}").contains("(secret)"));
        let Ok(body) = serde_json::from_slice::<serde_json::Value>(&body) else { return Ok(()) };
        assert!(body.is_object(), "{body}");
        assert!(["token", "access_token"].iter().any(|key| body[*key].as_str() == Some(token)));
        Ok(())
    });
}
