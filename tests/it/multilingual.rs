//! The multilingual model of the repository, alone and beside the default one.

use crate::support;
use coldread::scorer::{PostOptions, Scorer};
use coldread_engine::Model;
use insta::assert_snapshot;
use std::path::Path;

/// Praise and a complaint in each language that it was trained for.
const POSTS: [(&str, &str, &str); 16] = [
    ("en", "positive", "I love this phone, the camera is great"),
    (
        "en",
        "negative",
        "worst airline ever, they lost my bag again",
    ),
    (
        "es",
        "positive",
        "me encanta este teléfono, la cámara es genial",
    ),
    (
        "es",
        "negative",
        "qué asco de servicio, no vuelvo nunca más",
    ),
    ("pt", "positive", "adorei o show de ontem, foi maravilhoso"),
    (
        "pt",
        "negative",
        "que filme horrível, perdi meu tempo e meu dinheiro",
    ),
    (
        "fr",
        "positive",
        "je suis très content de mon achat, merci beaucoup",
    ),
    (
        "fr",
        "negative",
        "encore un train en retard, j'en ai vraiment marre",
    ),
    (
        "de",
        "positive",
        "das Konzert gestern war wunderbar, ich bin so glücklich",
    ),
    (
        "de",
        "negative",
        "Ich hasse das, nie wieder kaufe ich hier etwas",
    ),
    (
        "it",
        "positive",
        "che bella giornata, sono davvero felice di essere qui",
    ),
    ("it", "negative", "servizio pessimo, non ci torno mai più"),
    ("ar", "positive", "أحب هذا الهاتف والكاميرا رائعة جدا"),
    ("ar", "negative", "خدمة سيئة جدا ولن أعود إليهم أبدا"),
    ("hi", "positive", "यह फ़िल्म बहुत अच्छी थी, मज़ा आ गया"),
    ("hi", "negative", "बहुत खराब सेवा, मैं बहुत निराश हूँ"),
];

fn multilingual() -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/multilingual");
    Model::open(folder.join("multilingual.coldread")).expect("a model")
}

fn posts() -> Vec<&'static str> {
    POSTS.iter().map(|(.., post)| *post).collect()
}

#[test]
fn it_tells_praise_from_complaints_in_eight_languages() {
    let model = multilingual();
    let mut languages: Vec<&str> = POSTS.iter().map(|(language, ..)| *language).collect();
    languages.sort_unstable();
    languages.dedup();
    let mut known: Vec<&str> = model.languages().iter().map(String::as_str).collect();
    known.sort_unstable();
    assert_eq!(known, languages);
    let results = model.classifier().classify(&posts()).expect("scored");
    let mut told = String::new();
    for ((language, label, post), result) in POSTS.iter().zip(results) {
        let sentiment = result.expect("a post that can be scored");
        assert_eq!(sentiment.label(), *label, "{post}");
        told.push_str(&format!("{language} {label} {:?}\n", sentiment.scores));
    }
    assert_snapshot!(told);
}

#[test]
fn a_batch_of_all_languages_gives_each_post_its_own_bits() {
    let multilingual = multilingual();
    let default = support::model();
    let scorer = Scorer::from(default.classifier()).with_model(&multilingual);
    let mut scorer = scorer.expect("they have the same labels");
    let results = scorer
        .score(&posts(), PostOptions::default())
        .expect("scored");
    for ((language, _, post), result) in POSTS.iter().zip(results) {
        let model = if *language == "en" {
            default
        } else {
            &multilingual
        };
        let alone = model.classifier().classify_one(post).expect("scored");
        assert_eq!(result.map(|scored| scored.sentiment), Ok(alone), "{post}");
    }
}
