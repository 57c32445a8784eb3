//! Signing in, and what went wrong.

use maud::html;

use crate::server::admin::ui::frame::View;

/// `next` is where to go afterwards. `problem` is why the last try did not work.
pub(in crate::server::admin::ui) fn sign_in(has_token: bool, next: &str, problem: Option<&str>) -> View {
    let body = html! {
        div.narrow {
            h1 { "Sign in" }
            @if let Some(problem) = problem { p.state.bad role="alert" { (problem) } }
            @if has_token {
                form.stack method="post" action="/sign-in" {
                    input type="hidden" name="next" value=(next);
                    label for="token" { "Token" }
                    input id="token" name="token" type="password" required autocomplete="current-password"
                        maxlength="4096" aria-describedby="token-note";
                    p.note id="token-note" { "It is what is in the file that " code { "server.admin_token_file" } " names." }
                    button { "Sign in" }
                }
            } @else {
                p {
                    "There is no token to sign in with. Set " code { "server.admin_token_file" }
                    " in the configuration, or use the commands on the server itself, as " code { "roadstead status" } "."
                }
            }
        }
    };
    View { title: "Sign in".to_owned(), tab: None, body }
}

/// Why a page cannot be shown, or a change was not made.
pub(in crate::server::admin::ui) fn refused(title: &str, why: &str) -> View {
    let body = html! {
        div.narrow {
            h1 { (title) }
            p.state.bad role="alert" { (why) }
            p { a href="/" { "Overview" } " · " a href="/repositories" { "Repositories" } }
        }
    };
    View { title: title.to_owned(), tab: None, body }
}
