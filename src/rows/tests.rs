//! Each form of input, in pieces of every length, and what people really send.

use super::*;
use std::io::{Cursor, Write};

/// A row as its id, and its post or its error's code.
type Seen = (Option<String>, Result<String, &'static str>);

fn seen(row: Row) -> Seen {
    let id = row.id.map(|id| serde_json::to_string(&id).expect("text"));
    (id, row.post.map_err(|error| error.code()))
}

/// What is read in pieces of a length.
fn read(options: &RowOptions, input: &[u8], piece: usize) -> Result<Vec<Row>, InputError> {
    let mut reader = RowReader::new(options);
    let mut rows = Vec::new();
    for mut piece in input.chunks(piece) {
        while !piece.is_empty() {
            rows.extend(reader.read(&mut piece)?);
        }
    }
    rows.extend(reader.finish()?);
    Ok(rows)
}

fn read_all(options: &RowOptions, input: &[u8]) -> Result<Vec<Row>, InputError> {
    let whole = read(options, input, input.len().max(1));
    for piece in (1..input.len()).take(40) {
        assert_eq!(read(options, input, piece), whole, "in pieces of {piece}");
    }
    whole
}

fn options(format: RowFormat) -> RowOptions {
    RowOptions::new(format, 100)
}

#[track_caller]
fn check_with(options: &RowOptions, input: &[u8], expected: &[Result<&str, &'static str>]) {
    let rows = read_all(options, input).expect("rows");
    let posts: Vec<_> = rows.into_iter().map(|row| seen(row).1).collect();
    let posts: Vec<_> = posts
        .iter()
        .map(|post| post.as_deref().map_err(|e| *e))
        .collect();
    assert_eq!(posts, expected, "{:?}", String::from_utf8_lossy(input));
}

#[track_caller]
fn check(format: RowFormat, input: impl AsRef<[u8]>, expected: &[Result<&str, &'static str>]) {
    check_with(&options(format), input.as_ref(), expected);
}

#[track_caller]
fn refused(options: &RowOptions, input: &[u8], code: &str, part: &str) {
    let error = read_all(options, input).expect_err("no rows");
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

#[track_caller]
fn ids(format: RowFormat, input: &str, expected: &[Option<&str>]) {
    let rows = read_all(&options(format), input.as_bytes()).expect("rows");
    let ids: Vec<_> = rows.into_iter().map(|row| seen(row).0).collect();
    let ids: Vec<_> = ids.iter().map(Option::as_deref).collect();
    assert_eq!(ids, expected);
}

use RowFormat::{Csv, Json, Text, Tsv};

#[test]
fn lines_end_in_lf_crlf_and_cr() {
    let (a, b, c) = (Ok("a"), Ok("b"), Ok("c"));
    check(Text, "", &[]);
    for input in ["a\nb\nc", "a\r\nb\r\nc\r\n", "a\rb\rc\r", "a\rb\r\nc\n"] {
        check(Text, input, &[a, b, c]);
        let json = input.replace(|end: char| end.is_alphabetic(), "\"x\"");
        check(Json, json, &[Ok("x"), Ok("x"), Ok("x")]);
        check(Csv, format!("text\r{input}"), &[a, b, c]);
    }
    check(Text, "a\n\n\rb", &[Ok("a"), Ok(""), Ok(""), Ok("b")]);
    check(Text, b"\xff\nb\n", &[Err("invalid_utf8"), Ok("b")]);
    check(Text, "a\0b\nc", &[Ok("a\0b"), Ok("c")]);
    check(
        Text,
        format!("{}\nb", "x".repeat(101)),
        &[Err("text_too_long"), Ok("b")],
    );
}

#[test]
fn json_is_lines_arrays_or_objects() {
    let lines = "\u{feff}\"a\\n\"\r\n\n{\"text\":\"ü😀\",\"id\":7,\"more\":[]}\n{\"id\":\"x\"}\n{\"text\"\n5\n\
                 {\"text\":null}\nnull\n\"last\"";
    let missing = Err("missing_field");
    let expected = [
        Ok("a\n"),
        Ok("ü😀"),
        missing,
        Err("invalid_json"),
        missing,
        missing,
        missing,
        Ok("last"),
    ];
    check(Json, lines, &expected);
    let array = "[\n {\"text\": \"I love, [it]\"},\n \"a\\\"\", null, 5,\n {\"text\":\"b\"} ]\n";
    check(
        Json,
        array,
        &[Ok("I love, [it]"), Ok("a\""), missing, missing, Ok("b")],
    );
    check(Json, "[]", &[]);
    check(Json, "[\"a\",]", &[Ok("a")]);
    check(
        Json,
        "[\"a\",,\"b\"]",
        &[Ok("a"), Err("invalid_json"), Ok("b")],
    );
    check(Json, "[\"a\", {\"text\":", &[Ok("a"), Err("invalid_json")]);
    check(Json, "[\"a\"", &[Err("invalid_json")]);
    check(Json, "[\"a\"]\n\"b\"\n[1]", &[Ok("a"), Ok("b"), missing]);
    let pretty = "{\n  \"text\": \"a\"\n}\n{\n  \"text\": \"b\"\n}\n";
    check(Json, pretty, &[Ok("a"), Ok("b")]);
    check(
        Json,
        "true\nname = x\n\"a\"",
        &[missing, Err("invalid_json"), Ok("a")],
    );
}

#[test]
fn archives_of_twitter_are_arrays() {
    let archive = "window.YTD.tweets.part0 = [\n {\n \"tweet\" : {\n \"id_str\" : \"1\",\n \"full_text\" : \"I love\"\n }\n }\n]";
    for format in [Text, Json] {
        check(format, archive, &[Ok("I love")]);
        ids(format, archive, &[Some("\"1\"")]);
    }
    check(
        Json,
        "Grailbird.data.tweets_2013_01 = \n [ {\"text\":\"a\"} ];",
        &[Ok("a")],
    );
}

#[test]
fn fields_are_keys_or_pointers() {
    let with = |format, field: &str| RowOptions {
        field: Some(field.to_owned()),
        ..options(format)
    };
    let row = "{\"a/b\":\"x\",\"user\":{\"posts\":[{\"t\":\"y\"}]}}";
    for (field, post) in [("a/b", "x"), ("/a~1b", "x"), ("/user/posts/0/t", "y")] {
        check_with(&with(Json, field), row.as_bytes(), &[Ok(post)]);
    }
    check_with(
        &with(Json, "/user/posts/1/t"),
        row.as_bytes(),
        &[Err("missing_field")],
    );
    let table = b"id,body\n1,\"a, b\"\n";
    for (field, post) in [("body", "a, b"), ("2", "a, b"), ("id", "1"), ("1", "1")] {
        check_with(&with(Csv, field), table, &[Ok(post)]);
    }
    refused(
        &with(Csv, "9"),
        table,
        "missing_field",
        "only \"id\", \"body\"",
    );
    refused(&options(Csv), table, "missing_field", "--no-header");
    refused(
        &options(Csv),
        format!("{},b\n", "x".repeat(31)).as_bytes(),
        "missing_field",
        "\"text\";",
    );
}

#[test]
fn half_a_pair_of_surrogates_is_one_replacement() {
    let rows = r#""great"
{"text":"cut \ud83d","\udc00":1,"id":"\ud83d\ude00"}
"\\ud83d \udc00\ud83d\ude00"
"#;
    check(
        Json,
        rows,
        &[Ok("great"), Ok("cut \u{fffd}"), Ok("\\ud83d \u{fffd}😀")],
    );
    ids(Json, rows, &[None, Some("\"😀\""), None]);
}

#[test]
fn ids_keep_their_digits() {
    let rows = "{\"text\":\"a\",\"id\":18446744073709551616}\n{\"text\":\"a\",\"id\":1234567890.12345678901}\n\
                {\"text\":\"a\",\"id\":1e400}\n{\"text\":\"a\",\"id\":[1]}\n";
    let expected = [
        Some("18446744073709551616"),
        Some("1234567890.12345678901"),
        Some("1e400"),
        None,
    ];
    ids(Json, rows, &expected);
    ids(
        Csv,
        "id,text\n18446744073709551616,a\n",
        &[Some("\"18446744073709551616\"")],
    );
}

#[test]
fn deep_and_giant_json_is_bounded() {
    let deep = format!(
        "{{\"text\":{}{}}}\n\"b\"",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    check(Json, deep, &[Err("missing_field"), Ok("b")]);
    let giant = format!("\"{}\"\n\"b\"\n", "x".repeat(1 << 20));
    check(Json, &giant, &[Err("text_too_long"), Ok("b")]);
    check(
        Json,
        format!("[{}]", giant.replace("\"\n\"", "\",\"")),
        &[Err("text_too_long"), Ok("b")],
    );
}

#[test]
fn csv_is_quoted_with_doubled_quotes() {
    let table = "id,text\r\n1,\"a, \"\"b\"\"\nc\"\n2,\n,\"last";
    check(
        Csv,
        table,
        &[Ok("a, \"b\"\nc"), Ok(""), Err("unclosed_quote")],
    );
    ids(Csv, table, &[Some("\"1\""), Some("\"2\""), Some("\"\"")]);
    check(Csv, "anything\na\n\n\r\n \n", &[Ok("a"), Ok(" ")]);
    check(Csv, "text\n\"\"\n", &[Ok("")]);
    check(Csv, "text\n\"a\" \na\"b\n", &[Ok("a "), Ok("a\"b")]);
    check(
        Csv,
        "text\n\"a\"b\n\"a\" \"b\"\nc\n",
        &[Err("stray_quote"), Err("stray_quote"), Ok("c")],
    );
    check(Csv, "Text\na\n", &[Ok("a")]);
}

#[test]
fn a_quote_that_is_not_closed_is_an_error() {
    let rows = read_all(&options(Csv), b"id,text\n1,\"I love\n2,awful\n3,good\n").expect("rows");
    assert_eq!(rows.len(), 1);
    let error = rows[0].post.as_ref().expect_err("not closed");
    let message =
        "line 2: a quote in this row is never closed; close it, or double it if it is text";
    assert_eq!(
        (error.message_at(rows[0].line).as_str(), error.code()),
        (message, "unclosed_quote")
    );
    // Another row's quote closes it.
    let rows =
        read_all(&options(Csv), b"id,text\n1,\"I love\n2,\"awful\"\n3,good\n").expect("rows");
    assert_eq!(rows.len(), 2);
    let error = rows[0].post.as_ref().expect_err("closed elsewhere");
    assert!(
        error.message_at(rows[0].line).contains("up to line 3"),
        "{error}"
    );
    assert_eq!(rows[1].post.as_deref(), Ok("good"));
    assert_eq!(rows[1].line, 4);
}

#[test]
fn rows_have_the_columns_of_their_header() {
    let wrong = Err("column_count");
    let table = "id,text\n1,Great phone, but it broke\n2,ok\n3\n4,good,,\n";
    check(Csv, table, &[wrong, Ok("ok"), wrong, Ok("good")]);
    let error = read_all(&options(Csv), table.as_bytes())
        .expect("rows")
        .remove(0);
    let message = error.post.expect_err("too many").message_at(error.line);
    assert!(
        message.starts_with("line 2: the row has 3 columns; expected 2"),
        "{message}"
    );
    check(Csv, "text\nGreat, but\n\"a, b\"\n", &[wrong, Ok("a, b")]);
    check(Csv, "text,id\ngood\n", &[wrong]);
    // Columns without a name.
    check(Csv, "id,text,,\n1,a\n2,b,x,\n", &[Ok("a"), Ok("b")]);
    let names: Vec<String> = (0..1000).map(|i| format!("c{i}")).collect();
    let wide = format!("{},text\n{}a\n", names.join(","), "x,".repeat(1000));
    check(Csv, wide, &[Ok("a")]);
}

#[test]
fn delimiters_show_in_the_header() {
    for delimiter in [',', ';', '\t', '|', '^'] {
        let table =
            format!("id{delimiter}text\n1{delimiter}\"a{delimiter} b\"\n2{delimiter}c, d; e\n");
        let first = format!("a{delimiter} b");
        let second = if delimiter == ',' || delimiter == ';' {
            Err("column_count")
        } else {
            Ok("c, d; e")
        };
        check(Csv, table, &[Ok(&first), second]);
    }
    check(
        Csv,
        "\u{feff}sep=;\r\nid;text\r\n1;great\r\n",
        &[Ok("great")],
    );
    check(Csv, "sep=\t\nid\ttext\n1\tgreat\n", &[Ok("great")]);
    check(Csv, "\"sep=,\"\nid,text\n1,great\n", &[Ok("great")]);
    let numbered = RowOptions {
        field: Some("2".to_owned()),
        ..options(Csv)
    };
    check_with(&numbered, b"id;body\n1;a\n", &[Ok("a")]);
    refused(
        &numbered,
        b"id;my, body\n1;a\n",
        "unknown_delimiter",
        "`,` and `;`",
    );
    let named = RowOptions {
        delimiter: Some(b';'),
        ..numbered
    };
    check_with(&named, b"id;my, body\n1;a\n", &[Ok("a")]);
    assert_eq!(parse_delimiter("tab"), Some(b'\t'));
    assert_eq!(
        (
            parse_delimiter("\""),
            parse_delimiter("ab"),
            parse_delimiter("é")
        ),
        (None, None, None)
    );
}

#[test]
fn without_a_header_the_first_row_is_one() {
    let absent = RowOptions {
        header: Header::Absent,
        ..options(Csv)
    };
    check_with(
        &absent,
        b"1,a\n2,b\n3,c, d\n",
        &[Ok("a"), Ok("b"), Err("column_count")],
    );
    check_with(&absent, b"1,\"a\nb\"", &[Ok("a\nb")]);
    check_with(&absent, b"just a post\n", &[Ok("just a post")]);
    refused(&absent, b"1;Great phone\n", "unknown_delimiter", "`;`");
    let tabs = RowOptions {
        header: Header::Absent,
        ..options(Tsv)
    };
    check_with(
        &tabs,
        b"2\t\"quoted\" post\r\n0\tb\n",
        &[Ok("\"quoted\" post"), Ok("b")],
    );
    let detect = RowOptions {
        header: Header::Detect,
        ..options(Tsv)
    };
    check_with(&detect, b"2\ta\n", &[Ok("a")]);
    check_with(&detect, b"text\tid\na\t1\n", &[Ok("a")]);
}

#[test]
fn quotes_behind_backslashes_are_read_as_spark_writes_them() {
    let table = r#"id,text
1,"She said \"I hate it\" and left"
2,"so \"smart\", isn't it"
3,"she said \"awful\""
4,"a ""b"" c:\dir"
"#;
    let posts = [
        Ok("She said \"I hate it\" and left"),
        Ok("so \"smart\", isn't it"),
        Ok("she said \"awful\""),
        Ok("a \"b\" c:\\dir"),
    ];
    check(Csv, table, &posts);
    // Without any such quote a backslash is a backslash.
    check(
        Csv,
        "text,id\n\"c:\\\",1\n\"c:\\\"\"d\",2\n\"¯\\_(ツ)\",3",
        &[Ok("c:\\"), Ok("c:\\\"d"), Ok("¯\\_(ツ)")],
    );
    check(
        Csv,
        "text\n\"she said \\\"awful\\\"\"\nb\n",
        &[Ok("she said \"awful\""), Ok("b")],
    );
    check(Csv, "text\n\"awful\\\"\"", &[Ok("awful\"")]);
}

#[test]
fn what_csv_writers_write_is_read_back() {
    let pieces = [
        "",
        "a",
        "\"",
        ",",
        "\n",
        "\r\n",
        "é\t",
        " x ",
        "\"\"",
        "b,\"c\"\nd",
    ];
    let mut writer = csv_writer();
    let mut expected = Vec::new();
    for first in pieces {
        for second in pieces {
            writer.write_record([first, second, "end"]).expect("a Vec");
            expected.push(second);
        }
    }
    let table = writer.into_inner().expect("a Vec");
    let posts: Vec<_> = expected.into_iter().map(Ok).collect();
    check(Csv, table, &posts);
}

fn csv_writer() -> ::csv::Writer<Vec<u8>> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer
        .write_record(["first", "text", "last"])
        .expect("a Vec");
    writer
}

#[test]
fn a_giant_row_is_not_kept() {
    for head in ["\"", ""] {
        let mut reader = RowReader::new(&options(Csv));
        let mut input = format!("text\n{head}").into_bytes();
        input.resize(10_000, b'a');
        let mut bytes = &input[..];
        while !bytes.is_empty() {
            assert_eq!(reader.read(&mut bytes), Ok(Vec::new()));
        }
        for _ in 0..1000 {
            let mut more = &[b'a'; 1000][..];
            while !more.is_empty() {
                assert_eq!(reader.read(&mut more), Ok(Vec::new()));
            }
        }
        let rows = reader.finish().expect("rows");
        let code = if head.is_empty() {
            "text_too_long"
        } else {
            "unclosed_quote"
        };
        assert_eq!(rows[0].post.as_ref().expect_err("giant").code(), code);
    }
    refused(
        &options(Csv),
        &vec![b'a'; 1 << 20],
        "invalid_header",
        "65536 bytes",
    );
}

fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
    let bytes = |unit: u16| {
        if big_endian {
            unit.to_be_bytes()
        } else {
            unit.to_le_bytes()
        }
    };
    text.encode_utf16().flat_map(bytes).collect()
}

#[test]
fn utf16_is_decoded_with_and_without_its_mark() {
    for text in [
        "J’adore ce téléphone 😍\r\nI hate this, awful\r\nmeh\r\n",
        "Это отличный телефон\nужасно\nтак себе\n",
        "この電話が大好き。\n最悪だ\nまあまあ\n",
        "أحب هذا الهاتف\nسيئ\nعادي\n",
        "I love it\nawful\nmeh",
    ] {
        let posts: Vec<_> = text.lines().map(Ok).collect();
        for big_endian in [false, true] {
            check(Text, utf16(&format!("\u{feff}{text}"), big_endian), &posts);
            check(Text, utf16(text, big_endian), &posts);
        }
        for mark in ["", "\u{feff}"] {
            let utf32 = |bytes: fn(u32) -> [u8; 4]| -> Vec<u8> {
                format!("{mark}{text}")
                    .chars()
                    .flat_map(|c| bytes(c.into()))
                    .collect()
            };
            check(Text, utf32(u32::to_le_bytes), &posts);
            check(Text, utf32(u32::to_be_bytes), &posts);
        }
    }
    check(
        Csv,
        utf16("\u{feff}id\ttext\n1\tgreat\n", false),
        &[Ok("great")],
    );
    // Half a pair of surrogates, and half a unit.
    check(
        Text,
        b"\xff\xfea\0\x3d\xd8b\0\n",
        &[Ok("a\u{fffd}b\u{fffd}")],
    );
}

#[test]
fn what_may_be_utf16_and_is_not_clear_is_refused() {
    refused(
        &options(Text),
        &[0; 40],
        "unsupported_media_type",
        "byte order mark",
    );
    // Latin-1, and stray zeros, are none.
    check(
        Text,
        b"caf\xe9 is great\nok\n",
        &[Err("invalid_utf8"), Ok("ok")],
    );
    check(
        Text,
        "great\0 phone\nok\n",
        &[Ok("great\0 phone"), Ok("ok")],
    );
    check(
        Text,
        b"caf\xe9 is great\0\nok\n",
        &[Err("invalid_utf8"), Ok("ok")],
    );
}

#[test]
fn files_of_other_kinds_are_refused_by_name() {
    for (first, name, command) in [
        (
            &b"PK\x03\x04\x14\0\x06\0xl/workbook.xml"[..],
            "Excel",
            "libreoffice",
        ),
        (b"PK\x03\x04\x14\0\0\0posts.csv", "zip", "unzip"),
        (b"PAR1\x15\x04\x15", "Parquet", "duckdb"),
        (b"%PDF-1.7\n%\xe2", "PDF", "pdftotext"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "PNG", "tesseract"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG", "tesseract"),
        (b"GIF89a\x01\0", "GIF", "tesseract"),
        (b"SQLite format 3\0\x10\0", "SQLite", "sqlite3"),
        (b"BZh91AY&SY\x01", "bzip2", "bzip2 -dc"),
        (b"\xfd7zXZ\0\0\x04", "xz", "xz -dc"),
        (b"7z\xbc\xaf\x27\x1c\0\x04", "7-Zip", "7z x"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip", "content-encoding: gzip"),
        (b"\x28\xb5\x2f\xfd\x04\0", "zstd", "content-encoding: zstd"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "xls", "libreoffice"),
        (b"Obj\x01\x04\x14", "Avro", "avro-tools"),
    ] {
        for format in [Text, Json, Csv] {
            refused(&options(format), first, "unsupported_media_type", name);
            refused(&options(format), first, "unsupported_media_type", command);
        }
    }
    for post in [
        "PK is my brand",
        "GIF of the day",
        "BZh!",
        "RIFF raff",
        "ORC attack",
    ] {
        check(Text, post, &[Ok(post)]);
    }
}

#[test]
fn files_are_decompressed() {
    let rows = |bytes: Vec<u8>| {
        let mut file = RowFile::new(Cursor::new(bytes), &options(Text)).expect("opens");
        let next = || {
            file.next_row()
                .expect("whole")
                .map(|row| row.post.expect("a post"))
        };
        std::iter::from_fn(next).collect::<Vec<_>>()
    };
    let text = b"a\nb\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text).expect("a Vec");
    let gzip = gzip.finish().expect("a Vec");
    assert_eq!(rows(text.to_vec()), ["a", "b"]);
    assert_eq!(
        rows([gzip.clone(), gzip.clone()].concat()),
        ["a", "b", "a", "b"]
    );
    let padding = vec![0; 100_000];
    assert_eq!(
        rows([&gzip[..], &padding, &gzip, &padding].concat()),
        ["a", "b", "a", "b"]
    );
    assert_eq!(
        rows(zstd::encode_all(&text[..], 1).expect("a Vec")),
        ["a", "b"]
    );
    assert!(rows(Vec::new()).is_empty());
    let cut = gzip[..gzip.len() - 4].to_vec();
    let mut file = RowFile::new(Cursor::new(cut), &options(Text)).expect("opens");
    let error = std::iter::from_fn(|| {
        file.next_row()
            .map_or_else(|e| Some(Err(e)), |row| row.map(Ok))
    });
    assert!(
        error.take(9).any(|row| row.is_err()),
        "a cut file is not whole"
    );
}

#[test]
fn some_rows_at_a_time_and_first_rows_at_once() {
    let mut reader = RowReader::new(&options(Json));
    let mut first = &b"\"a\"\n"[..];
    assert_eq!(reader.read(&mut first).expect("a row").len(), 1);
    let rows = "\"\"\n".repeat(100);
    let mut rest = rows.as_bytes();
    for left in [68, 36, 4, 0] {
        assert!(reader.read(&mut rest).expect("rows").len() <= ROWS_PER_READ);
        assert_eq!(rest.len(), 3 * left);
    }
}
