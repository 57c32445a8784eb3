//! `roadstead status` and a metric say which images would survive an outage.

use super::{QUICK, REPOSITORY, ahead_of_need, tag};
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::image::image;
use crate::support::upstream::*;

#[tokio::test]
async fn images_that_are_held_whole_are_counted_and_the_others_named_with_what_they_lack() {
    let registry = Upstream::start().await;
    let part = image(&[blob(1000, 2)]);
    registry.publish("org/whole", "1", &image(&[blob(1000, 1)]));
    registry.publish(REPOSITORY, "1", &part);
    let mirror = ahead_of_need(&registry, QUICK).await;
    mirror.pull_whole("org/whole", "1").await;
    assert_eq!(tag(&mirror, REPOSITORY, "1").await, 200);
    let count = |state: &str| mirror.metric(&format!("roadstead_images{{authority=\"docker.io\",state=\"{state}\"}}"));
    eventually("both are counted", async || count("whole") == 1.0 && count("incomplete") == 1.0).await;
    let missing = part.layers()[0].digest.as_str();
    eventually("its config is not missing any more", async || {
        let status = Client::new(mirror.admin).get("/api/v1/status").await.json();
        let images = &status["images"];
        let example = &images["examples"][0];
        assert_eq!((images["whole"].as_u64(), images["incomplete"].as_u64()), (Some(1), Some(1)));
        assert_eq!(example["repository"], REPOSITORY);
        example["missing"] == 1 && example["blobs"] == serde_json::json!([missing])
    })
    .await;
}
