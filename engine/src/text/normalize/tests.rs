use super::*;
use proptest::prelude::*;
use std::path::Path;

/// The default model's steps, with an emoji table of the tests' own.
fn profile() -> NormalizationProfile {
    let words = [
        ("\u{1f602}", "joy"),
        ("\u{1f525}", "fire"),
        ("\u{2764}", "red heart"),
        ("\u{1f469}", "woman"),
        ("\u{1f4bb}", "laptop"),
        ("\u{1f469}\u{200d}\u{1f4bb}", "woman technologist"),
        ("\u{1f1fa}\u{1f1f8}", "flag united states"),
        ("1\u{20e3}", "keycap 1"),
    ];
    NormalizationProfile {
        html_tags: true,
        html_entities: true,
        invisible: true,
        styled_letters: true,
        handles: Some("@user".into()),
        links: Some("http".into()),
        quotes: Some(Quotes::Ascii),
        split_hashtags: true,
        max_repeat: Some(3),
        emoji: Some("emoji.tsv".into()),
        emoji_table: table(&words),
        ..no_steps()
    }
}

/// A profile in which every optional step is off.
fn no_steps() -> NormalizationProfile {
    NormalizationProfile {
        version: 1,
        html_tags: false,
        html_entities: false,
        invisible: false,
        styled_letters: false,
        handles: None,
        links: None,
        quotes: None,
        split_hashtags: false,
        max_repeat: None,
        emoji: None,
        emoji_table: Vec::new(),
    }
}

/// The lines of an emoji table.
fn table(words: &[(&str, &str)]) -> Vec<u8> {
    let lines = words.iter().map(|(key, words)| format!("{key}\t{words}\n"));
    lines.collect::<String>().into_bytes()
}

fn normalizer(profile: &NormalizationProfile) -> Normalizer {
    let emoji = EmojiSource::Owned(profile.emoji_table.clone());
    Normalizer::new(profile, emoji)
}

#[track_caller]
fn check_with(profile: &NormalizationProfile, post: &str, expected: &str) {
    let found = normalizer(profile).normalize(post).into_owned();
    assert_eq!(
        found.escape_debug().to_string(),
        expected.escape_debug().to_string()
    );
}

#[track_caller]
fn check(post: &str, expected: &str) {
    check_with(&profile(), post, expected);
}

#[test]
fn vectors() {
    #[derive(serde::Deserialize)]
    struct Vector {
        text: String,
        normalized: String,
    }
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let profile = NormalizationProfile::open(&root.join("model/default")).unwrap();
    let normalizer = normalizer(&profile.expect("the default model has a profile"));
    let file = root.join("tests/data/normalization_vectors.jsonl");
    let lines = std::fs::read_to_string(file).unwrap();
    assert!(lines.lines().count() >= 250);
    for (i, line) in lines.lines().enumerate() {
        let vector: Vector = serde_json::from_str(line).unwrap();
        let found = normalizer.normalize(&vector.text);
        assert_eq!(
            found,
            vector.normalized,
            "line {}: {:?}",
            i + 1,
            vector.text
        );
    }
}

#[test]
fn a_plain_post_is_not_copied() {
    let normalizer = normalizer(&profile());
    for post in ["", "nothing to do here", "3 < 4 & h, w: # @ caf\u{e9}"] {
        assert!(matches!(normalizer.normalize(post), Cow::Borrowed(same) if same == post));
    }
}

#[test]
fn every_step_can_be_off() {
    let post = "<b>x</b> a\u{ad}b \u{ff41} &lt; @a http://b \u{2019} #cD \u{1f602} eeeee";
    check_with(&no_steps(), post, post);
    check_with(&no_steps(), " \u{3000}a\n\nb\u{a0}", "a b");
}

#[test]
fn white_space_is_unicodes() {
    let listed = [
        '\u{9}', '\u{a}', '\u{b}', '\u{c}', '\u{d}', ' ', '\u{85}', '\u{a0}', '\u{1680}',
    ]
    .into_iter()
    .chain('\u{2000}'..='\u{200a}')
    .chain(['\u{2028}', '\u{2029}', '\u{202f}', '\u{205f}', '\u{3000}']);
    let std = ('\0'..=char::MAX).filter(|c| c.is_whitespace());
    assert_eq!(listed.collect::<Vec<_>>(), std.collect::<Vec<_>>());
}

#[test]
fn each_step() {
    check("<p>a<br>b <b>c</b></p>", "a b c");
    check("a\u{200b}w\u{ad}ful", "awful");
    check(
        "\u{1d41a}\u{ff57}\u{24d5}\u{1f184}l\u{336} \u{2460}\u{2473}",
        "awfUl 120",
    );
    check("&lt;3 &amp;amp; &#x1F525;", "<3 &amp; fire");
    check("(see https://a.b/c), www.d.e!", "(see http ), http !");
    check("@a, b@c.d and @e@f.g.", "@user, b@c.d and @user.");
    check("\u{201c}don\u{2019}t\u{201d}", "\"don't\"");
    check("#SoHappy_today", "#So Happy today");
    check(
        "\u{1f469}\u{1f3fd}\u{200d}\u{1f4bb}!",
        "woman technologist !",
    );
    check("soooo 10000", "sooo 10000");
}

#[test]
fn the_longest_emoji_wins() {
    check("\u{1f469}\u{200d}\u{1f525}", "woman fire");
    check(
        "\u{1f469}\u{200d}\u{1f4bb}\u{1f4bb}",
        "woman technologist laptop",
    );
    check("1\u{fe0f}\u{20e3}1", "keycap 1 1");
    check("\u{1f1fa}\u{1f1f8}", "flag united states");
    check("\u{1f1fa}\u{1f1fa}\u{1f1f8}", "UUS");
}

#[test]
fn runs_of_one_emoji_are_cut() {
    let joys = "\u{1f602}".repeat(5);
    check(&joys, "joy joy joy");
    check(
        &format!("{joys}\u{1f525}{joys}"),
        "joy joy joy fire joy joy joy",
    );
    check(&"\u{1f602}\u{200d}".repeat(5), "joy joy joy");
    check(&"\u{1f602} ".repeat(5), "joy joy joy joy joy");
    let unlimited = NormalizationProfile {
        max_repeat: None,
        ..profile()
    };
    check_with(&unlimited, &joys, "joy joy joy joy joy");
}

#[test]
fn an_emoji_table_needs_no_order() {
    let emoji_words = [
        ("б", "2"),
        ("áb", "12"),
        ("", "?"),
        ("á", "0"),
        ("ábcd", "4"),
        ("á", "1"),
        ("c", "plain ASCII is no emoji"),
    ];
    let profile = NormalizationProfile {
        emoji: Some("emoji.tsv".into()),
        emoji_table: table(&emoji_words),
        ..no_steps()
    };
    check_with(&profile, "á", "1");
    check_with(&profile, "ábc", "12 c");
    check_with(&profile, "ábcdáb", "4 12");
    check_with(&profile, "бáác", "2 1 1 c");
}

#[test]
fn odd_keys_are_no_danger() {
    let emoji_words = [
        ("\u{200d}é", "joined"),
        ("é", "single"),
        ("\u{fe0f}", "never"),
    ];
    let profile = NormalizationProfile {
        emoji: Some("emoji.tsv".into()),
        emoji_table: table(&emoji_words),
        ..no_steps()
    };
    check_with(&profile, "é\u{200d}é\u{fe0f}", "single joined");
}

/// What the steps look for, whole and in pieces.
const NASTY: [&str; 49] = [
    "<",
    "<p>",
    "</p>",
    "<b>",
    "</b>",
    "<br/>",
    "<a href=\"",
    "\">",
    "='",
    "<!--",
    "-->",
    "<script>",
    "\u{ad}",
    "\u{200b}",
    "\u{e0067}",
    "\u{1f3f4}",
    "\u{336}",
    "\u{1d41a}",
    "\u{1f170}",
    "\u{24c2}",
    "&",
    "&#",
    "&#x",
    "&amp;",
    "&lt",
    "&notit;",
    "@",
    "\u{ff20}",
    "#",
    "\u{ff03}",
    "http://",
    "HTTPS://",
    "www.",
    "aaaa",
    "\u{200d}",
    "\u{fe0f}",
    "\u{1f3fd}",
    "\u{20e3}",
    "1",
    "\u{1f469}",
    "\u{1f4bb}",
    "\u{1f602}",
    "\u{1f602}\u{1f602}\u{1f602}\u{1f602}",
    "\u{1f1fa}",
    "\u{1f1f8}",
    "\u{2019}",
    "\u{201c}",
    "\u{3000}",
    "\n",
];

/// Posts made of those, of plain letters and of anything.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        "[ -~]",
        "[a-zA-Z0-9_.]{1,4}",
        prop::sample::select(&NASTY[..]).prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// The steps that are idempotent, each alone. The whole is not and cannot be: what
/// was escaped twice is then escaped once.
fn idempotent_steps() -> Vec<NormalizationProfile> {
    vec![
        no_steps(),
        NormalizationProfile {
            invisible: true,
            ..no_steps()
        },
        NormalizationProfile {
            links: Some("http".into()),
            ..no_steps()
        },
        NormalizationProfile {
            quotes: Some(Quotes::Ascii),
            ..no_steps()
        },
        NormalizationProfile {
            split_hashtags: true,
            ..no_steps()
        },
        NormalizationProfile {
            max_repeat: Some(3),
            ..no_steps()
        },
        NormalizationProfile {
            quotes: Some(Quotes::Ascii),
            max_repeat: Some(3),
            emoji: profile().emoji,
            emoji_table: profile().emoji_table,
            ..no_steps()
        },
    ]
}

/// All short posts of what the steps look for: an edge of one step that meets
/// another's is found for certain, not by luck.
#[test]
fn steps_are_idempotent_on_every_short_post() {
    for profile in idempotent_steps() {
        let normalizer = normalizer(&profile);
        let mut post = String::new();
        for a in NASTY {
            for b in NASTY {
                for c in NASTY {
                    post.clear();
                    post.extend([a, b, c]);
                    let once = normalizer.normalize(&post);
                    let twice = normalizer.normalize(&once);
                    assert_eq!(twice, once, "{post:?} under {profile:?}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_out_is_clean(post in nasty()) {
        let normalizer = normalizer(&profile());
        let text = normalizer.normalize(&post);
        prop_assert_eq!(text.split_whitespace().collect::<Vec<_>>().join(" "), text.as_ref());
        prop_assert_eq!(remove_modifiers(&text), None);
        prop_assert_eq!(ascii_quotes(&text), None);
        prop_assert_eq!(text.find('\u{1f602}'), None);
        // No step makes more of a byte than the longest words of an emoji.
        prop_assert!(text.len() <= 16 * post.len());
    }

    #[test]
    fn steps_are_idempotent(post in nasty()) {
        for profile in idempotent_steps() {
            let normalizer = normalizer(&profile);
            let once = normalizer.normalize(&post);
            prop_assert_eq!(&normalizer.normalize(&once), &once);
        }
    }
}

/// Much of what each scan starts on. Anything quadratic takes minutes here.
#[test]
fn hostile_posts_take_linear_time() {
    let normalizer = normalizer(&profile());
    let openings = [
        "<",
        "<p>",
        "<p",
        "<a b=\"",
        "<a b='x\">",
        "<p><a b=\"\"",
        "<p><a b=\"'>",
        "<b",
        "<b ",
        "<b>",
        "</b>",
        "<!--",
        "<p><!--",
        "<script>",
        "<p></script",
        "<style></",
        "&lt;p&gt;",
        "\u{ad}",
        "\u{200b}",
        "a\u{200b}",
        "\u{1f170}",
        "a\u{336}",
        "\u{1d400}",
        "&",
        "&#",
        "&#1",
        "&#x",
        "&amp",
        "&a",
        "@",
        "@a",
        "@a@",
        "@a@.",
        "#",
        "#a",
        "#_",
        "#aB",
        "http://",
        "http://.",
        "https:",
        "www.",
        "www.)",
        "h",
        "w",
        "\u{1f602}",
        "\u{1f469}\u{200d}",
        "\u{200d}",
        "\u{fe0f}",
        "\u{1f3fd}",
        "1\u{20e3}",
        "\u{1f1fa}",
        "\u{2019}",
        " ",
        "\u{3000}",
        "\u{301}",
        ")",
    ];
    for opening in openings {
        normalizer.normalize(&opening.repeat((1 << 16) / opening.len()));
    }
    for prefix in ["<a b=\"c\">", "<p><a b=\"", "<p><!--", "<style>"] {
        for filling in [
            "<",
            "</",
            "<a b=\"",
            "<a b='\">",
            "='",
            "</style",
            "--",
            ">",
        ] {
            normalizer.normalize(&(prefix.to_owned() + &filling.repeat((1 << 16) / filling.len())));
        }
    }
    for prefix in ["&#", "&#x", "&", "http://", "@", "@a@", "#"] {
        for filling in ["1", ".", "a", "\u{e9}", "a."] {
            normalizer.normalize(&(prefix.to_owned() + &filling.repeat((1 << 16) / filling.len())));
        }
    }
}
