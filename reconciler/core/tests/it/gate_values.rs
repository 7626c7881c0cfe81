//! Values of variables: what each kind takes, and what no kind takes (N1).

use chiffon_core::catalogue::VarKind;
use chiffon_core::refused_value;
use serde_json::json;

use crate::gate::Case;

/// Values that could become code, at every depth.
fn templates() -> Vec<(&'static str, chiffon_schemas::Json, &'static str)> {
    let template = "holds a template";
    vec![
        ("text", json!("{{ x }}"), template),
        ("text", json!("{% x %}"), template),
        ("text", json!("{# x #}"), template),
        ("text", json!("before {{"), template),
        ("any", json!("{{ lookup('pipe', 'id') }}"), template),
        ("path", json!("/srv/{{ x }}"), template),
        ("texts", json!(["fine", "{{ x }}"]), template),
        ("portal", json!({"name": "{{ x }}"}), template),
        ("portals", json!([{"name": "fine"}, {"name": "{% x"}]), template),
        ("free", json!({"a": {"b": ["{{ x }}"]}}), template),
        ("free", json!({"{{ x }}": 1}), template),
        ("free", json!({"a": [{"{% x": 1}]}), template),
        ("text", json!("a\u{0}b"), "NUL"),
        ("texts", json!(["a\u{0}"]), "NUL"),
        ("free", json!({"a\u{0}": 1}), "NUL"),
        ("free", json!({"__ansible_unsafe": "x"}), "a key that Ansible itself uses"),
        ("free", json!({"__ansible_vault": "x"}), "a key that Ansible itself uses"),
        ("free", json!({"a": [{"__ansible_x": 1}]}), "a key that Ansible itself uses"),
    ]
}

/// What a kind refuses, beside what it takes.
fn kinds() -> Vec<(&'static str, chiffon_schemas::Json, bool)> {
    let refused = |name, value| (name, value, false);
    let taken = |name, value| (name, value, true);
    vec![
        taken("any", json!("x")),
        taken("any", json!(1)),
        taken("any", json!(1.5)),
        taken("any", json!(true)),
        refused("any", json!(null)),
        refused("any", json!([])),
        refused("any", json!({})),
        taken("text", json!("x")),
        taken("text", json!("")),
        taken("text", json!("a: b # { } 'x'")),
        taken("text", json!("one { brace }")),
        taken("text", json!("{ { x } }")),
        refused("text", json!(1)),
        refused("text", json!(true)),
        refused("text", json!(null)),
        refused("text", json!(["x"])),
        taken("path", json!("/srv/x")),
        refused("path", json!(1)),
        refused("path", json!(false)),
        taken("count", json!(3)),
        taken("count", json!(0)),
        taken("count", json!(-1)),
        taken("count", json!(u64::MAX)),
        refused("count", json!(1.5)),
        refused("count", json!("3")),
        refused("count", json!(true)),
        refused("count", json!(null)),
        taken("ratio", json!(1.5)),
        taken("ratio", json!(1)),
        refused("ratio", json!("1.5")),
        refused("ratio", json!(false)),
        taken("flag", json!(true)),
        taken("flag", json!(false)),
        refused("flag", json!("yes")),
        refused("flag", json!(1)),
        refused("flag", json!(0)),
        refused("flag", json!(null)),
        taken("colour", json!("red")),
        taken("colour", json!("blue")),
        taken("colour", json!(7)),
        refused("colour", json!("green")),
        refused("colour", json!("7")),
        refused("colour", json!("Red")),
        refused("colour", json!(null)),
        taken("texts", json!([])),
        taken("texts", json!(["a", "b"])),
        refused("texts", json!("a")),
        refused("texts", json!([1])),
        refused("texts", json!(["a", null])),
        refused("texts", json!({})),
        taken("portal", json!({"name": "x"})),
        taken("portal", json!({"name": "x", "port": 1})),
        refused("portal", json!({})),
        refused("portal", json!({"port": 1})),
        refused("portal", json!({"name": 1})),
        refused("portal", json!({"name": "x", "port": "1"})),
        refused("portal", json!({"name": "x", "url": "y"})),
        refused("portal", json!([])),
        refused("portal", json!("x")),
        taken("portals", json!([{"name": "x"}, {"name": "y", "port": 2}])),
        taken("portals", json!([])),
        refused("portals", json!([{"name": "x"}, {"port": 2}])),
        refused("portals", json!({"name": "x"})),
        taken("free", json!({})),
        taken("free", json!({"a": {"b": [1, null]}})),
        refused("free", json!([])),
        refused("free", json!(1)),
    ]
}

pub fn rows() -> Vec<(String, Case, Option<String>)> {
    let mut rows = Vec::new();
    for (name, value, reason) in templates() {
        rows.push((format!("{name} = {value}"), Case::with_var(name, value), Some(reason.to_owned())));
    }
    for (name, value, taken) in kinds() {
        let reason = (!taken).then(|| format!("`{name}` takes "));
        rows.push((format!("{name} = {value}"), Case::with_var(name, value), reason));
    }
    rows
}

#[test]
fn n1_values_that_only_look_like_templates_are_plain() {
    for value in
        [json!("}}"), json!("%}"), json!("{ {"), json!("#}"), json!({"ansible": 1}), json!({"_x": "__ansible"})]
    {
        assert_eq!(refused_value(&value), None, "{value}");
    }
}

#[test]
fn kinds_describe_themselves_for_an_error() {
    let map = VarKind::Map([("b".to_owned(), (VarKind::Str, true)), ("a".to_owned(), (VarKind::Int, false))].into());
    for (kind, words) in [
        (VarKind::Any, "a plain value"),
        (VarKind::Str, "text"),
        (VarKind::Path, "a path"),
        (VarKind::Int, "a whole number"),
        (VarKind::Float, "a number"),
        (VarKind::Bool, "true or false"),
        (VarKind::Choice(vec![json!("a"), json!(1)]), "one of \"a\", 1"),
        (VarKind::Map(Default::default()), "a map"),
        (VarKind::List(Box::new(map)), "a list, each item a map with a, b"),
    ] {
        assert_eq!(kind.describe(), words);
    }
}
