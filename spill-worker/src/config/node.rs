//! A YAML document as a tree whose leaves know their line.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A value of a setting.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Leaf {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<String>),
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leaf::Null => f.write_str("none"),
            Leaf::Bool(value) => value.fmt(f),
            Leaf::Number(value) => value.fmt(f),
            Leaf::Text(text) => f.write_str(text),
            Leaf::List(items) => f.write_str(&items.join(", ")),
        }
    }
}

/// A leaf or a table.
#[derive(Debug)]
pub(super) enum Node {
    Leaf(Leaf),
    Table(Vec<(String, Spanned<Node>)>),
}

/// Reads a document; an error has its line and what is wrong there.
pub(super) fn parse(text: &str) -> Result<Spanned<Node>, (u64, String)> {
    serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        // The first line of the message says what, the others show the place.
        let text = error.to_string();
        (line, text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
    })
}

/// Calls `f` with the path, the value and the line of each leaf.
pub(super) fn walk(node: &Spanned<Node>, path: &mut Vec<String>, f: &mut dyn FnMut(&[String], &Leaf, u64)) {
    match &node.value {
        Node::Leaf(leaf) => f(path, leaf, node.referenced.line()),
        Node::Table(pairs) => {
            for (key, value) in pairs {
                path.push(key.clone());
                walk(value, path, f);
                path.pop();
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a table")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Leaf(Leaf::Bool(value)))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Leaf(Leaf::Number(value as f64)))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Leaf(Leaf::Number(value as f64)))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Leaf(Leaf::Number(value)))
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Leaf(Leaf::Text(value.to_owned())))
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Leaf::Null))
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Leaf::Null))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Node>()? {
            match item {
                Node::Leaf(leaf) => list.push(leaf.to_string()),
                Node::Table(_) => list.push("{...}".to_owned()),
            }
        }
        Ok(Node::Leaf(Leaf::List(list)))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Node, A::Error> {
        let mut table = Vec::new();
        while let Some((key, value)) = pairs.next_entry::<Node, Spanned<Node>>()? {
            match key {
                Node::Leaf(leaf) => table.push((leaf.to_string(), value)),
                Node::Table(_) => return Err(serde::de::Error::custom("a key must be a name")),
            }
        }
        Ok(Node::Table(table))
    }
}
