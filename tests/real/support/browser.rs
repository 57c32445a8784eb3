//! Chromium without a window, told what to do by its `DevTools` protocol over two pipes.

#![expect(clippy::indexing_slicing, reason = "members of JSON values: a missing one is null")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::{process, program};

/// Accessibility rules (axe-core), installed by `tests/install.sh`.
const AXE: &str = "/usr/local/share/roadstead-tests/axe-4.14.1.min.js";
/// Longest wait for what the browser says next.
const LIMIT: Duration = Duration::from_mins(1);

/// One tab of a browser of its own. Dropping it ends the browser.
pub(crate) struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    last: u64,
    session: Option<String>,
    /// What it said without being asked since it was last looked at.
    events: Vec<Value>,
    axe: String,
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Browser {
    pub(crate) fn start(folder: &Path) -> Self {
        let axe = fs::read_to_string(AXE).unwrap_or_else(|err| panic!("{AXE}: {err}: run tests/install.sh"));
        // The browser reads commands from 3 and writes to 4.
        let script = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>browser.err";
        let mut command = process::command(program::find("sh"));
        command.args(["-c", script]).arg(program::find("chromium"));
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]);
        command.arg(format!("--user-data-dir={}", folder.join("profile").display())).arg("about:blank");
        let command = command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("sh starts");
        let (to, out) = (child.stdin.take().expect("it is piped"), child.stdout.take().expect("it is piped"));
        let (tell, from) = channel();
        thread::spawn(move || {
            for message in BufReader::new(out).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("the browser writes JSON");
                if tell.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self { child, to, from, last: 0, session: None, events: Vec::new(), axe };
        let tab = browser.ask("Target.createTarget", &json!({ "url": "about:blank" }));
        let attached = browser.ask("Target.attachToTarget", &json!({ "targetId": tab["targetId"], "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.ask(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    fn hear(&mut self) -> Value {
        self.from.recv_timeout(LIMIT).expect("the browser answers")
    }

    /// One command, and its result.
    pub(crate) fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let mut command = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{command}\0").as_bytes()).expect("the browser reads");
        loop {
            let mut heard = self.hear();
            if heard["id"] == self.last {
                assert!(heard["error"].is_null(), "{method}: {heard}");
                return heard["result"].take();
            }
            self.events.push(heard);
        }
    }

    /// Resolves when the page that was asked for is shown, since `act`.
    fn after_loading(&mut self, act: impl FnOnce(&mut Self)) {
        self.events.clear();
        act(self);
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let heard = self.hear();
            self.events.push(heard);
        }
    }

    pub(crate) fn go(&mut self, url: &str) {
        self.after_loading(|browser| {
            browser.ask("Page.navigate", &json!({ "url": url }));
        });
    }

    /// A window of this width, for somebody who prefers `scheme`.
    pub(crate) fn become_like(&mut self, width: u32, scheme: &str) {
        let screen = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.ask("Emulation.setDeviceMetricsOverride", &screen);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.ask("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// From here on, no script of a page runs.
    pub(crate) fn forbid_scripts(&mut self) {
        self.ask("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
    }

    /// The value of an expression on the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.ask("Runtime.evaluate", &asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression:.80}: {answer}");
        answer["result"]["value"].clone()
    }

    pub(crate) fn key(&mut self, key: &str) {
        let text = if key == "Enter" { "\r" } else { "" };
        let code = if key == "Enter" { 13 } else { 9 };
        for kind in ["keyDown", "keyUp"] {
            let pressed = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
            self.ask("Input.dispatchKeyEvent", &pressed);
        }
    }

    /// Presses Tab until what has the focus matches a selector.
    pub(crate) fn tab_to(&mut self, selector: &str) {
        for _press in 0..60 {
            if self.value(&format!("document.activeElement.matches({selector:?})")) == true {
                return;
            }
            self.key("Tab");
        }
        panic!("Tab does not lead to {selector}");
    }

    /// Presses Enter, and waits for the page that follows.
    pub(crate) fn enter(&mut self) {
        self.after_loading(|browser| browser.key("Enter"));
    }

    pub(crate) fn type_text(&mut self, text: &str) {
        self.ask("Input.insertText", &json!({ "text": text }));
    }

    /// What the browser complained of since the page was asked for: blocked content, errors.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let entries = self.events.iter().filter(|event| event["method"] == "Log.entryAdded");
        let entries = entries.map(|event| &event["params"]["entry"]).filter(|entry| entry["level"] != "verbose");
        let thrown = self.events.iter().filter(|event| event["method"] == "Runtime.exceptionThrown");
        entries.chain(thrown).map(ToString::to_string).collect()
    }

    /// What the rules of accessibility find, also where they cannot decide.
    pub(crate) fn barriers(&mut self) -> Vec<String> {
        let axe = self.axe.clone();
        self.value(&format!("{axe};0"));
        let found = self.value(
            "axe.run().then(found => found.violations.concat(found.incomplete)\
             .map(rule => rule.id + ': ' + rule.nodes.map(node => node.html).join(' ')))",
        );
        found.as_array().expect("a list").iter().map(ToString::to_string).collect()
    }

    /// The whole page as a picture.
    pub(crate) fn picture(&mut self, file: &Path) {
        let size = self.value("[innerWidth, document.documentElement.scrollHeight]");
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
        let asked = json!({ "format": "png", "clip": clip, "captureBeyondViewport": true });
        let picture = self.ask("Page.captureScreenshot", &asked);
        let picture = base64::prelude::BASE64_STANDARD.decode(picture["data"].as_str().expect("a picture"));
        fs::write(file, picture.expect("it is base64")).expect("the folder for pictures is writable");
    }
}
