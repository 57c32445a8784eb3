//! Mistakes in what is said of eviction.

use roadstead::config::Config;

#[test]
fn every_mistake_is_told_with_its_key() {
    let wrong = r#"
[storage]
high_mark = "0.9"
low_mark = "120%"
unused_for = "long"
pins = ["docker.io", "nobody.test/app", "docker.io/a**b", "docker.io/app:"]
[upstreams."docker.io"]
max_size = "much"
"#;
    let problems = Config::read(Some(wrong), Vec::new()).err().expect("it is full of mistakes").to_string();
    let keys = ["storage.high_mark", "storage.low_mark", "storage.unused_for", "upstreams.\"docker.io\".max_size"];
    for key in keys {
        assert!(problems.contains(&format!("  {key}: ")), "{key}: {problems}");
    }
    assert!(problems.contains("storage.pins[1]: names a registry that is not among the upstreams"), "{problems}");
    for at in [0, 2, 3] {
        assert!(problems.contains(&format!("storage.pins[{at}]: ")), "{problems}");
    }
}

#[test]
fn the_low_mark_lies_below_the_high_one() {
    let read = |marks: &str| Config::read(Some(&format!("[storage]\n{marks}")), Vec::new());
    let problems = read("high_mark = \"50%\"\nlow_mark = \"50%\"").err().expect("they are alike").to_string();
    assert!(problems.contains("storage.low_mark: must be below `high_mark`"), "{problems}");
    assert!(read("high_mark = \"50%\"").is_ok(), "the other one follows");
}

#[test]
fn a_pin_may_name_a_registry_by_its_alias() {
    let text = "[storage]\npins = [\"index.docker.io/library/**\", \"*/app\"]\n[upstreams.\"docker.io\"]\n";
    let config = Config::read(Some(text), Vec::new()).unwrap_or_else(|problems| panic!("{problems}"));
    let pins: Vec<_> = config.storage.eviction.pins.iter().map(ToString::to_string).collect();
    assert_eq!(pins, ["docker.io/library/**", "*/app"]);
}
