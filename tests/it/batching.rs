//! Requests that meet in the queue: each gets its own answers, the same as alone.

use crate::support::{batcher, limits};
use coldread::batcher::RequestOptions;
use coldread::error::InferError;
use coldread::scorer::PostResult;
use coldread_engine::PostError;

/// The posts of request `i`: one to four of them, some that cannot be scored.
fn posts(i: usize) -> Vec<String> {
    (0..=i % 4)
        .map(|j| match (i + j) % 5 {
            0 => String::new(),
            1 => format!("request {i} is great, post {j} even better 😍"),
            2 => format!("waited {i} hours for nothing. never again #fail{j}"),
            _ => format!(
                "the {i}th meeting is on friday at {j} {}",
                "o'clock ".repeat(i)
            ),
        })
        .collect()
}

async fn alone(i: usize) -> Vec<PostResult> {
    let batcher = batcher(&limits(&[]));
    let answer = batcher.classify(posts(i), RequestOptions::default()).await;
    answer.expect("an idle queue").results
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_gets_its_own_answers_bit_for_bit() {
    let batcher = batcher(&limits(&["--workers", "2"]));
    let together: Vec<_> = (0..40)
        .map(|i| {
            let batcher = batcher.clone();
            tokio::spawn(async move { batcher.classify(posts(i), RequestOptions::default()).await })
        })
        .collect();
    for (i, answer) in together.into_iter().enumerate() {
        let answer = answer
            .await
            .expect("no panic")
            .expect("room for all")
            .results;
        assert_eq!(answer, alone(i).await, "request {i}");
        assert_eq!(
            answer.iter().any(|r| r == &Err(PostError::Empty.into())),
            posts(i).contains(&String::new())
        );
    }
    assert_eq!(batcher.pending_posts(), 0, "all room is given back");
}

#[tokio::test]
async fn callers_that_leave_give_their_room_back() {
    let batcher = batcher(&limits(&["--max-pending-posts", "8"]));
    for i in 0..20 {
        // Dropped at the first await: the request may be queued, its answer is not wanted.
        let request = batcher.classify(posts(i), RequestOptions::default());
        let _ = tokio::time::timeout(std::time::Duration::ZERO, request).await;
    }
    // The queue works what was left off, and has room again.
    loop {
        match batcher
            .classify(vec!["still here".to_owned()], RequestOptions::default())
            .await
        {
            Ok(answer) => break assert!(answer.results[0].is_ok()),
            Err(InferError::Overloaded { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}
