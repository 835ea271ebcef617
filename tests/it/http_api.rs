//! What each endpoint answers.

use crate::support::{get, instant, limits, post, post_as, request, send, service, state};
use axum::http::{Method, StatusCode};
use coldread::http::app;
use insta::assert_snapshot;
use serde_json::json;

#[tokio::test]
async fn one_text() {
    let reply = send(
        service(),
        post(r#"{"text":"I love this, what a wonderful day!"}"#),
    )
    .await;
    assert_snapshot!(reply.render(), @r#"
    200 OK
    content-type: application/json

    {
      "label": "positive",
      "score": "[score]",
      "scores": {
        "negative": "[score]",
        "neutral": "[score]",
        "positive": "[score]"
      },
      "model": "[model]"
    }
    "#);
}

#[tokio::test]
async fn many_texts_with_bad_ones_among_them() {
    let too_long = "a".repeat(65_537);
    let body = json!({"texts": ["I love this!", " \n", too_long, "I hate this!"]});
    let reply = send(service(), post(body.to_string())).await;
    assert_snapshot!(reply.render(), @r#"
    200 OK
    content-type: application/json

    {
      "results": [
        {
          "label": "positive",
          "score": "[score]",
          "scores": {
            "negative": "[score]",
            "neutral": "[score]",
            "positive": "[score]"
          }
        },
        {
          "error": {
            "code": "empty_text",
            "message": "the text is empty; send at least one visible character"
          }
        },
        {
          "error": {
            "code": "text_too_long",
            "message": "the text has 65537 bytes; at most 65536 are allowed, so shorten or split it"
          }
        },
        {
          "label": "negative",
          "score": "[score]",
          "scores": {
            "negative": "[score]",
            "neutral": "[score]",
            "positive": "[score]"
          }
        }
      ],
      "model": "[model]"
    }
    "#);
}

#[tokio::test]
async fn the_same_post_has_the_same_scores_whichever_way_it_comes() {
    let text = "I love this, what a \"wonderful\" day! 😀";
    let json = json!({ "text": text }).to_string();
    let expected = send(service(), post(json.clone())).await.text;
    for request in [
        post_as("text/plain", text),
        post_as("text/plain; charset=\"UTF-8\"", format!("\u{feff}{text}")),
        post_as("application/vnd.api+json", json.clone()),
        post_as("application/json; charset=utf-8", format!("\u{feff}{json}")),
        request(Method::POST, "/v1/sentiment?ignored=1", &[], json),
        post(r#"{"text":"I love this, what a \"wonderful\" day! \ud83d\ude00"}"#),
    ] {
        assert_eq!(send(service(), request).await.text, expected);
    }
    let many = json!({"texts": ["", text, "something else entirely, and longer"]});
    let many = send(service(), post(many.to_string())).await.json();
    let expected: serde_json::Value = serde_json::from_str(&expected).expect("JSON");
    assert_eq!(many["results"][1]["scores"], expected["scores"]);
}

#[tokio::test]
async fn scores_are_a_distribution_in_the_shortest_digits() {
    let reply = send(service(), post(r#"{"text":"I love this!"}"#)).await;
    let json = reply.json();
    let scores = json["scores"].as_object().expect("scores by label");
    let values = || scores.values().map(|v| v.as_f64().expect("a number"));
    assert!((values().sum::<f64>() - 1.0).abs() < 1e-5, "{json}");
    assert_eq!(json["score"], json["scores"]["positive"]);
    assert_eq!(json["score"].as_f64(), values().reduce(f64::max));
    for value in scores.values() {
        // Nine digits tell any two f32 apart; printed by way of f64 there are more.
        let value = value.to_string();
        let mantissa = value.split('e').next().unwrap_or_default();
        let digits = mantissa.trim_start_matches(['0', '.']).replace('.', "");
        assert!(digits.len() <= 9, "{value}");
    }
}

#[tokio::test]
async fn a_post_that_was_cut_says_so() {
    let text = "such a long day ".repeat(500);
    let json = send(service(), post_as("text/plain", text)).await.json();
    assert_eq!(json["truncated"], true);
}

#[tokio::test]
async fn any_character_may_stand_in_a_text() {
    let body = r#"{"text":"\u0000\ufffe\u202e \ud83d\udc69\u200d\ud83d\ude80 good"}"#;
    assert_eq!(send(service(), post(body)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn health() {
    let reply = send(service(), get("/healthz")).await;
    assert_snapshot!(reply.render(), @r#"
    200 OK
    content-type: application/json

    {
      "status": "ok"
    }
    "#);
}

#[tokio::test]
async fn readiness_ends_when_draining_begins() {
    let state = state(limits(&[]));
    let reply = send(app(state.clone()), get("/readyz")).await;
    assert_snapshot!(reply.render(), @r#"
    200 OK
    content-type: application/json

    {
      "status": "ready"
    }
    "#);
    state.start_draining();
    let reply = send(app(state.clone()), get("/readyz")).await;
    assert_snapshot!(reply.render(), @r#"
    503 Service Unavailable
    content-type: application/json
    retry-after: 1

    {
      "error": {
        "code": "shutting_down",
        "message": "the server is shutting down; try again, and another instance will respond"
      }
    }
    "#);
    // What comes all the same is answered, and the process is still alive.
    let reply = send(app(state.clone()), post(r#"{"text":"good"}"#)).await;
    assert_eq!(reply.status, StatusCode::OK);
    let reply = send(app(state), get("/healthz")).await;
    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test]
async fn info() {
    let reply = send(service(), get("/v1/info")).await;
    let mut json = reply.json();
    // Which engine runs depends on the CPU.
    let engine = json["engine"].take();
    assert!(
        engine["engine"].is_string() && engine["threads"] == 1,
        "{engine}"
    );
    let max_tokens = json["limits"]["max_tokens"].take();
    assert!(max_tokens.as_u64().is_some_and(|n| n >= 64), "{max_tokens}");
    assert!(json["model"].take().is_string());
    assert!(json["timings"].take().is_object());
    assert_eq!(json["version"].take(), env!("CARGO_PKG_VERSION"));
    assert_snapshot!(format!("{json:#}"), @r#"
    {
      "model": null,
      "labels": [
        "negative",
        "neutral",
        "positive"
      ],
      "languages": [
        "en"
      ],
      "problem_type": "single_label_classification",
      "engine": null,
      "compat": [
        "huggingface",
        "comprehend",
        "tei",
        "azure",
        "google",
        "sagemaker",
        "vertex"
      ],
      "limits": {
        "max_body_bytes": 4194304,
        "max_posts": 1000,
        "max_post_bytes": 65536,
        "max_tokens": null,
        "max_pending_posts": 4096,
        "request_timeout_ms": 600000
      },
      "timings": null,
      "version": null
    }
    "#);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    for path in ["/healthz", "/readyz", "/v1/info"] {
        let full = send(service(), get(path)).await;
        let head = send(service(), request(Method::HEAD, path, &[], "")).await;
        assert_eq!(head.status, StatusCode::OK);
        assert_eq!(head.text, "");
        let length = head.headers.get("content-length").expect("a length");
        assert_eq!(
            length.to_str().ok(),
            Some(full.text.len().to_string().as_str())
        );
    }
}

#[tokio::test]
async fn a_page_for_who_asks_for_one() {
    let accept = |media| request(Method::GET, "/", &[("accept", media)], "");
    let page = send(
        service(),
        accept("text/html,application/xhtml+xml,*/*;q=0.8"),
    )
    .await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let policy = page.headers["content-security-policy"].to_str();
    let policy = policy.expect("ASCII");
    assert!(
        policy.starts_with("default-src 'none';") && !policy.contains("unsafe"),
        "{policy}"
    );
    // Its parts are there, and no other host is named in any of them.
    for part in ["page.css", "page.js"] {
        assert!(page.text.contains(part), "{part}");
        let part = send(service(), get(&format!("/{part}"))).await;
        assert_eq!(part.status, StatusCode::OK);
        let hosts = part.text.replace("http://www.w3.org/2000/svg", "");
        assert!(!hosts.contains("://"), "{hosts}");
    }
    assert!(!page.text.contains("://"));
    // Load balancers and other programs are told that all is well.
    for media in ["application/json", "*/*"] {
        let reply = send(service(), accept(media)).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.headers["content-type"], "text/plain; charset=utf-8");
    }
    let head = send(service(), request(Method::HEAD, "/", &[], "")).await;
    assert_eq!((head.status, head.text.as_str()), (StatusCode::OK, ""));
}

#[tokio::test]
async fn long_posts_are_cut_read_in_windows_or_refused() {
    // Some 3 x 510 tokens.
    let text = "such a lovely day ".repeat(330);
    let score = async |long_text: &str| {
        let body = serde_json::json!({ "text": text, "long_text": long_text });
        send(instant(&[]), post(body.to_string())).await
    };
    let cut = score("truncate").await.json();
    assert_eq!(
        (&cut["truncated"], &cut["windows"]),
        (&json!(true), &json!(null))
    );
    let windows = score("window").await.json();
    assert_eq!(
        (&windows["truncated"], &windows["windows"]),
        (&json!(null), &json!(3))
    );
    let sum: f64 = ["negative", "neutral", "positive"]
        .iter()
        .filter_map(|label| windows["scores"][label].as_f64())
        .sum();
    assert!((sum - 1.0).abs() < 1e-5, "{windows}");
    let refused = score("error").await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(refused.json()["error"]["code"], "text_too_long");
    // The query says it for bodies that cannot.
    let by_query = request(
        Method::POST,
        "/v1/sentiment?long_text=window",
        &[("content-type", "text/plain")],
        text.clone(),
    );
    assert_eq!(send(instant(&[]), by_query).await.json()["windows"], 3);
    let unknown = request(Method::POST, "/v1/sentiment?long_text=fold", &[], "{}");
    assert_eq!(
        send(service(), unknown).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let short = send(service(), post(r#"{"text":"good","long_text":"error"}"#)).await;
    assert_eq!(short.status, StatusCode::OK);
}

#[tokio::test]
async fn one_damaged_post_costs_its_neighbours_nothing() {
    let body = r#"{"texts":["so good","so good \ud83d",null,"so bad"]}"#;
    let reply = send(service(), post(body)).await;
    assert_eq!(reply.status, StatusCode::OK);
    let results = &reply.json()["results"];
    assert_eq!(results[0]["label"], "positive");
    assert_eq!(results[2]["error"]["code"], "empty_text");
    assert_eq!(results[3]["label"], "negative");
    // Half of a surrogate pair is the character that stands for what cannot be read.
    let same = send(service(), post(r#"{"text":"so good \ufffd"}"#))
        .await
        .json();
    assert_eq!(results[1]["scores"], same["scores"]);
    let inputs = r#"{"inputs":[["so good \ud83d"],["so bad"]]}"#;
    let inputs = request(
        Method::POST,
        "/predict",
        &[("content-type", "application/json")],
        inputs,
    );
    let reply = send(service(), inputs).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let marked = "\u{feff}{\"text\":\"so good\"}";
    assert_eq!(send(service(), post(marked)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_slash_at_the_end_makes_no_other_route() {
    for path in [
        "/v1/info/",
        "/v1/info//?a=b",
        "/metrics/",
        "/healthz/",
        "/readyz/",
        "/openapi.json/",
        "/ping/",
    ] {
        assert_eq!(send(service(), get(path)).await.status, 200, "{path}");
    }
    let inputs = r#"{"inputs":"so good"}"#;
    let text = r#"{"text":"so good"}"#;
    for (path, body) in [
        ("/v1/sentiment/", text),
        ("/predict/", inputs),
        ("/models/some/model/", inputs),
        ("/invocations/", inputs),
    ] {
        let request = request(
            Method::POST,
            path,
            &[("content-type", "application/json")],
            body,
        );
        assert_eq!(send(service(), request).await.status, 200, "{path}");
    }
    // The page's parts are relative to a path without a slash.
    let docs = send(service(), get("/docs/")).await;
    let location = docs.headers["location"].to_str().expect("ASCII");
    assert_eq!((docs.status.as_u16(), location), (308, "../docs"));
}
