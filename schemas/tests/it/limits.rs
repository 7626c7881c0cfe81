use chiffon_schemas::read_request;
use chiffon_schemas::yaml::{Limits, parse, parse_all};
use proptest::prelude::*;

#[test]
fn s8_a_file_over_its_size_is_refused_before_it_is_parsed() {
    let text = format!("apiVersion: chiffon/v1\nkind: Request\nspec:\n  text: {}\n", "a".repeat(64 * 1024));
    let found = read_request("big.yaml", text.as_bytes()).unwrap_err();
    assert!(found[0].message.contains("at most 65536"), "{}", found[0].message);
}

#[test]
fn s8_bombs_are_refused() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        laughs.push_str(&format!("a{level}: &a{level} [{}]\n", vec![before; 8].join(", ")));
    }
    let bombs = [
        laughs,
        "[".repeat(200_000),
        "{a: ".repeat(50_000),
        "- ".repeat(100_000),
        "? ".repeat(100_000),
        format!("a: {}", "&x ".repeat(1_000)),
        "&a [*a]".to_owned(),
        "!!binary ".repeat(1_000),
    ];
    for bomb in bombs {
        for limits in [Limits::REQUEST, Limits::INFRA] {
            assert!(parse(&bomb, &limits).is_err(), "{}… was taken", bomb.chars().take(20).collect::<String>());
        }
    }
}

#[test]
fn foreign_files_keep_tags_merge_maps_and_read_yaml_1_1() {
    let text = "base: &base {a: 1, b: 2}\nreal:\n  <<: *base\n  b: 3\nsecret: !vault |\n  $ANSIBLE_VAULT;1.1\nflag: yes\nmode: 0644\nmode2: '0644'\n";
    let node = parse(text, &Limits::INFRA).unwrap();
    let real = node.get("real").unwrap();
    assert_eq!(real.get("a").unwrap().as_int(), Some(1));
    assert_eq!(real.get("b").unwrap().as_int(), Some(3));
    let secret = node.get("secret").unwrap();
    assert_eq!(secret.tag.as_deref(), Some("!vault"));
    assert!(secret.as_str().unwrap().starts_with("$ANSIBLE_VAULT"));
    assert_eq!(node.get("flag").unwrap().as_bool(), Some(true));
    assert_eq!(node.get("mode").unwrap().as_int(), Some(0o644));
    assert_eq!(node.get("mode2").unwrap().as_str(), Some("0644"));
}

#[test]
fn in_foreign_files_the_last_of_two_keys_wins_and_its_own_key_wins_over_a_merged_one() {
    let text = "one: &one {a: 1, 7: x}\ntwo: &two {a: 2, b: 2}\nall: {a: 0, a: 9, <<: [*one, *two], 7: y, '7': z}\n";
    let node = parse(text, &Limits::INFRA).unwrap();
    let all = node.get("all").unwrap();
    let found: Vec<String> =
        all.entries().iter().map(|(key, value)| format!("{:?}={:?}", key.value, value.value)).collect();
    assert_eq!(
        found,
        ["String(\"a\")=Int(9)", "Int(7)=String(\"y\")", "String(\"7\")=String(\"z\")", "String(\"b\")=Int(2)"]
    );
}

#[test]
fn places_count_from_one() {
    let node = parse("a: 1\nb:\n  - x\n  - yé: z\n", &Limits::REQUEST).unwrap();
    let item = &node.get("b").unwrap().items()[1];
    let value = &item.entries()[0].1;
    assert_eq!((value.span.line, value.span.column), (4, 9));
}

#[test]
fn several_documents_are_read_where_they_may_be() {
    assert_eq!(parse_all("---\na: 1\n---\nb: 2\n", &Limits::INFRA).unwrap().len(), 2);
}

proptest! {
    #[test]
    fn s8_no_text_panics(text in "\\PC{0,200}") {
        let _ = parse(&text, &Limits::REQUEST);
        let _ = parse_all(&text, &Limits::INFRA);
        let _ = read_request("any.yaml", text.as_bytes());
    }

    #[test]
    fn s8_no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_request("any.yaml", &bytes);
    }

    #[test]
    fn s8_yaml_like_text_never_panics(text in "[\\[\\]{}:,&*!|>'\"%@ \n\ta-c0-9#?<-]{0,120}") {
        let _ = parse(&text, &Limits::REQUEST);
        let _ = parse_all(&text, &Limits::INFRA);
    }
}
