//! What the default model makes of posts as people really write them.

use coldread_engine::Model;

fn labels(posts: &[&str]) -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/default");
    let model = Model::open(folder).unwrap();
    let results = model.classifier().classify(posts).unwrap();
    let label = |result: coldread_engine::PostResult| result.unwrap().label().to_owned();
    results.into_iter().map(label).collect()
}

#[test]
fn emoji_alone_have_their_sign() {
    let positive = [
        "❤️",
        "💕",
        "❤️‍🔥",
        "🙌",
        "💙",
        "🖤",
        "🤍",
        "♥",
        "❤❤❤❤",
        "🫶🏽",
        "😘",
        "🎉",
        "👏",
        "👍",
    ];
    let negative = ["🤬", "🖕", "🖕🏿", "💔", "🙄", "🤦🏻‍♀️", "😡", "👎"];
    assert_eq!(labels(&positive), ["positive"; 14]);
    assert_eq!(labels(&negative), ["negative"; 8]);
}

#[test]
fn fancy_dress_changes_no_label() {
    let posts = [
        "this is awful",
        "𝐭𝐡𝐢𝐬 𝐢𝐬 𝐚𝐰𝐟𝐮𝐥",
        "ｔｈｉｓ ｉｓ ａｗｆｕｌ",
        "ⓣⓗⓘⓢ ⓘⓢ ⓐⓦⓕⓤⓛ",
        "🆃🅷🅸🆂 🅸🆂 🅰🆆🅵🆄🅻",
        "ᴛʜɪꜱ ɪꜱ ᴀᴡꜰᴜʟ",
        "t̶h̶i̶s̶ ̶i̶s̶ ̶a̶w̶f̶u̶l̶",
        "this is aw\u{200b}f\u{ad}ul",
        "<p>this is <b>aw</b>ful</p>",
    ];
    assert_eq!(labels(&posts), ["negative"; 9]);
}
