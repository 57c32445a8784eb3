//! Log lines name one thing by one key.

use super::source::root;
use crate::support::mirror::files_below;

const LEVELS: [&str; 4] = ["error!(", "warn!(", "info!(", "debug!("];

/// Who reads a log looks for one key.
#[test]
fn a_failure_has_one_key_in_log_lines() {
    let mut lines = 0;
    for file in files_below(&root().join("src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let calls = text.split("tracing::").filter_map(|rest| LEVELS.iter().find_map(|level| rest.strip_prefix(level)));
        for call in calls {
            // The fields stand before the text.
            let fields = call.split('"').next().unwrap();
            for field in fields.split(',') {
                let key = field.split('=').next().unwrap().trim().trim_start_matches(['%', '?']);
                let is_other = ["err", "why", "problem", "failure", "cause"].contains(&key);
                assert!(!is_other, "{}: the key of a failure is `error`: {fields}", file.display());
            }
            lines += 1;
        }
    }
    assert!(lines > 50, "the log lines were found");
}
