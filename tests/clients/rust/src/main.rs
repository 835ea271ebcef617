//! The AWS SDK for Rust against a server. Started by `conformance.py`, which it tells each
//! result in a line, and asks for a server that is overloaded.

use aws_sdk_comprehend::config::retry::RetryConfig;
use aws_sdk_comprehend::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_comprehend::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_comprehend::types::{LanguageCode, SentimentType};
use aws_sdk_comprehend::{Client, Config};
use std::env::var;
use std::error::Error;
use std::io::{BufRead, stdin};

type Outcome = Result<(), Box<dyn Error>>;

const PLAIN: &str = "I love this phone";
const EMOJI: &str = "Größer als gedacht 😍👍🏽 — “naïve” café 你好";

fn client(path: &str, secret: Option<&str>) -> Client {
    let env = |name| var(name).expect(name);
    let secret = secret.map_or_else(|| env("AWS_SECRET_ACCESS_KEY"), str::to_owned);
    let credentials = Credentials::new(env("AWS_ACCESS_KEY_ID"), secret, None, None, "test");
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(env("URL") + path)
        .region(Region::new("eu-central-1"))
        .credentials_provider(credentials)
        .retry_config(RetryConfig::standard().with_max_attempts(12))
        .build();
    Client::from_conf(config)
}

fn check(is_so: bool, what: &str) -> Outcome {
    if is_so { Ok(()) } else { Err(what.into()) }
}

async fn plain() -> Outcome {
    for path in ["", "/comprehend"] {
        let call = client(path, None).detect_sentiment().text(PLAIN);
        let result = call.language_code(LanguageCode::En).send().await?;
        check(
            result.sentiment() == Some(&SentimentType::Positive),
            "it is positive",
        )?;
        let score = result.sentiment_score().ok_or("scores")?;
        check(score.mixed() == Some(0.0), "nothing is mixed")?;
    }
    Ok(())
}

async fn unicode() -> Outcome {
    let call = client("", None).detect_sentiment().text(EMOJI);
    let result = call.language_code(LanguageCode::De).send().await?;
    let score = result.sentiment_score().ok_or("scores")?;
    let parts = [score.positive(), score.neutral(), score.negative()];
    let sum: f32 = parts.into_iter().flatten().sum();
    check((sum - 1.0).abs() < 1e-4, "scores sum to 1")
}

async fn batch() -> Outcome {
    let texts = Some(vec![PLAIN.to_owned(), "awful".to_owned(), EMOJI.to_owned()]);
    let call = client("", None)
        .batch_detect_sentiment()
        .set_text_list(texts);
    let result = call.language_code(LanguageCode::En).send().await?;
    let places: Vec<_> = result
        .result_list()
        .iter()
        .filter_map(|it| it.index())
        .collect();
    check(
        places == [0, 1, 2] && result.error_list().is_empty(),
        "three results",
    )
}

async fn bad_item() -> Outcome {
    let texts = Some(vec!["x".repeat(5001), PLAIN.to_owned(), " ".to_owned()]);
    let call = client("", None)
        .batch_detect_sentiment()
        .set_text_list(texts);
    let result = call.language_code(LanguageCode::En).send().await?;
    let codes: Vec<_> = result
        .error_list()
        .iter()
        .filter_map(|it| it.error_code())
        .collect();
    let expected = ["TextSizeLimitExceededException", "InvalidRequestException"];
    check(
        codes == expected && result.result_list().len() == 1,
        "two errors",
    )
}

async fn oversize() -> Outcome {
    for length in [12_945, 5 << 20] {
        let call = client("", None).detect_sentiment().text("x".repeat(length));
        let error = call.language_code(LanguageCode::En).send().await;
        let error = error.err().ok_or("it is too long")?.into_service_error();
        check(
            error.is_text_size_limit_exceeded_exception(),
            "its size is named",
        )?;
    }
    Ok(())
}

async fn wrong_key() -> Outcome {
    let call = client("", Some("another/secret+0123456789")).detect_sentiment();
    let error = call
        .text(PLAIN)
        .language_code(LanguageCode::En)
        .send()
        .await;
    let error = error.err().ok_or("the key is wrong")?;
    check(
        error.code() == Some("InvalidSignatureException"),
        "the signature is named",
    )
}

/// Of several calls the first is refused nearly always.
async fn overload() -> Outcome {
    for _ in 0..5 {
        plain().await?;
    }
    Ok(())
}

/// Runs a case and says what came of it; the server is to be overloaded for the last.
async fn report(case: &str, run: impl Future<Output = Outcome>) {
    let is_overload = case == "overload";
    if is_overload {
        println!("overload");
        stdin()
            .lock()
            .read_line(&mut String::new())
            .expect("a line");
    }
    let fault = match run.await {
        Ok(()) => None,
        Err(error) => Some(DisplayErrorContext(&*error).to_string()),
    };
    if !is_overload {
        println!("result");
    }
    let line = serde_json::json!({
        "client": "aws-sdk-comprehend (Rust)",
        "version": aws_sdk_comprehend::meta::PKG_VERSION,
        "case": case,
        "fault": fault,
    });
    println!("{line}");
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    report("plain", plain()).await;
    report("unicode", unicode()).await;
    report("batch", batch()).await;
    report("bad_item", bad_item()).await;
    report("oversize", oversize()).await;
    report("wrong_key", wrong_key()).await;
    report("overload", overload()).await;
}
