use super::*;

fn read(input: &[u8], format: Format, field: Option<&str>, no_header: bool) -> Vec<Row> {
    let options = ReadOptions {
        format,
        field: field.map(str::to_owned),
        no_header,
        max_post_bytes: 20,
    };
    assert_eq!(options.conflict(), None);
    let mut posts = Posts::new(Box::new(io::Cursor::new(input.to_vec())), options).unwrap();
    std::iter::from_fn(|| posts.next().unwrap()).collect()
}

/// Rows as the post, or as the error's code and what its message must hold.
fn check(rows: &[Row], expected: &[Result<&str, (&str, &str)>]) {
    assert_eq!(rows.len(), expected.len(), "{rows:?}");
    for (row, expected) in rows.iter().zip(expected) {
        match (row, expected) {
            (Ok(post), Ok(expected)) => assert_eq!(post, expected),
            (Err(error), Err((code, part))) => {
                assert_eq!(error.code, *code);
                assert!(error.message.contains(part), "{error:?}");
            }
            _ => panic!("{row:?} is not {expected:?}"),
        }
    }
}

#[test]
fn text_keeps_a_result_for_every_line() {
    check(
        &read(
            b"a\n\n\xff\n123456789012345678901\nb",
            Format::Text,
            None,
            false,
        ),
        &[
            Ok("a"),
            Ok(""),
            Err(("invalid_utf8", "UTF-8")),
            Err(("text_too_long", "21 bytes; at most 20")),
            Ok("b"),
        ],
    );
}

#[test]
fn json_lines_are_objects_or_strings() {
    let input = b"{\"text\":\"a\",\"n\":1}\n\n\"b\\n\"\n{\"text\":3}\n{\"body\":\"x\"}\n[1]\n{\"text\":\n\"\xff\"\n";
    check(
        &read(input, Format::Jsonl, None, false),
        &[
            Ok("a"),
            Ok("b\n"),
            Err(("invalid_row", "line 4: \"text\" is not a string")),
            Err(("invalid_row", "line 5: no key \"text\"")),
            Err(("invalid_row", "line 6: neither")),
            Err((
                "invalid_row",
                "line 7: not JSON: EOF while parsing a value at column",
            )),
            Err(("invalid_utf8", "UTF-8")),
        ],
    );
    check(
        &read(b"{\"body\":\"x\"}", Format::Jsonl, Some("body"), false),
        &[Ok("x")],
    );
}

#[test]
fn deeply_nested_json_is_refused() {
    let mut input = b"{\"text\":".to_vec();
    input.extend([b'['; 5000]);
    check(
        &read(&input, Format::Jsonl, None, false),
        &[Err(("invalid_row", "recursion limit"))],
    );
}

#[test]
fn csv_columns_go_by_name_or_number() {
    let input = b"id,text\n1,\"a, b\"\n2\n";
    check(
        &read(input, Format::Csv, None, false),
        &[
            Ok("a, b"),
            Err(("invalid_row", "line 3: no column 2; the row has 1")),
        ],
    );
    check(
        &read(input, Format::Csv, Some("id"), false),
        &[Ok("1"), Ok("2")],
    );
    check(
        &read(input, Format::Csv, Some("1"), false),
        &[Ok("1"), Ok("2")],
    );
    check(
        &read(input, Format::Csv, None, true),
        &[Ok("text"), Ok("a, b"), Ok("2")],
    );
}

#[test]
fn tsv_takes_quotes_literally() {
    check(
        &read(b"2\t\"quoted\" post\r\n0\tb\n", Format::Tsv, None, true),
        &[Ok("\"quoted\" post"), Ok("b")],
    );
    check(
        &read(b"text\tn\na\t1\n", Format::Tsv, None, false),
        &[Ok("a")],
    );
}

#[test]
fn a_missing_column_names_those_there_are() {
    let options = ReadOptions {
        format: Format::Csv,
        field: Some("body".to_owned()),
        no_header: false,
        max_post_bytes: 20,
    };
    let error = Posts::new(Box::new(io::Cursor::new("id,text\n1,a\n")), options)
        .err()
        .unwrap();
    let message = error.to_string();
    assert!(
        message.contains("no column \"body\", only \"id\", \"text\""),
        "{message}"
    );
    assert!(message.contains("--no-header"), "{message}");
}

#[test]
fn an_empty_file_has_no_posts() {
    for format in [Format::Text, Format::Jsonl, Format::Csv, Format::Tsv] {
        check(&read(b"", format, None, false), &[]);
    }
}

#[test]
fn rows_over_the_limit_are_skipped_as_a_whole() {
    let long = "x".repeat(70_000);
    let input = format!("{{\"text\":\"{long}\"}}\n\"b\"\n");
    check(
        &read(input.as_bytes(), Format::Jsonl, None, false),
        &[Err(("text_too_long", "line 1")), Ok("b")],
    );
    let input = format!("text\n\"{long}\n{long}\"\nb\n");
    check(
        &read(input.as_bytes(), Format::Csv, None, false),
        &[Err(("text_too_long", "line 2")), Ok("b")],
    );
}

#[test]
fn extensions_name_formats() {
    for (name, format) in [
        ("a.txt", Format::Text),
        ("a", Format::Text),
        ("-", Format::Text),
        ("a.JSONL", Format::Jsonl),
        ("a.ndjson", Format::Jsonl),
        ("a.csv", Format::Csv),
        ("a.tsv", Format::Tsv),
    ] {
        assert_eq!(Format::of(Path::new(name)), format, "{name}");
    }
}
