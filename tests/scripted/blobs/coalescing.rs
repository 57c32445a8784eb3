use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn many_clients_of_one_cold_blob_cost_one_download() {
    let upstream = Upstream::start().await;
    let content = blob(1_000_000, 1);
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(100_000, &gate));
    let path = format!("/v2/library/app/blobs/{digest}");
    let client = mirror.client();
    let pulls: Vec<_> = (0..32)
        .map(|_| {
            let (client, path) = (client.clone(), path.clone());
            tokio::spawn(async move { client.get(&path).await })
        })
        .collect();
    gate.arrived().await;
    gate.open();
    for pull in pulls {
        let answer = pull.await.unwrap();
        assert_eq!((answer.status, sha256(&answer.body)), (200, content.sha256()));
    }
    assert_eq!(upstream.gets_of(&digest), 1);
}
