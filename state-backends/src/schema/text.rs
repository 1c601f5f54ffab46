//! The text form of a schema.
//!
//! ```text
//! shape   = "()" | "bool" | "i8" ... "i128" | "u8" ... "u128" | "f32" | "f64" | "char" | "string" | "bytes"
//!         | "option<" shape ">" | "list<" shape ">" | "map<" shape ", " shape ">"
//!         | "(" shape ",)" | "(" shape {", " shape} ")" | "[" shape "; " count "]"
//!         | "opaque " name | "&" name | type
//! type    = "struct " name [content] | "enum " name " { " variant {", " variant} " }" | "enum " name " {}"
//! variant = name [content]
//! content = "(" shape ")" | "(" shape ",)" | "(" [shape ", " shape {", " shape}] ")" | " { " field {", " field} " }" | " {}"
//! field   = name ": " shape
//! name    = letters, digits, "_" and "#" | string in double quotes, with \" and \\
//! ```
//!
//! A type is written out where it comes first and is `&name` after that, also inside itself. Of two different types
//! with the same name the second is `name#2`. `(shape)` is a newtype, `(shape,)` a tuple of one.

use super::{Content, Name, NamedType, Schema, Shape, Variant};
use crate::{Error, Result};

/// How deep shapes may be nested in a text.
const MAX_DEPTH: usize = 96;

/// The most elements of an array.
pub(super) const MAX_ARRAY: usize = 1 << 20;

/// The text, or without the names of types what the fingerprint is taken of.
pub(super) fn render(schema: &Schema, names: bool) -> String {
    let mut writer = TextWriter { schema, names, out: String::new(), seen: vec![false; schema.types.len()] };
    writer.shape(&schema.root);
    writer.out
}

struct TextWriter<'a> {
    schema: &'a Schema,
    names: bool,
    out: String,
    seen: Vec<bool>,
}

impl TextWriter<'_> {
    fn shape(&mut self, shape: &Shape) {
        match shape {
            Shape::Option(inner) => self.wrapped("option<", &[inner], ">"),
            Shape::Seq(inner) => self.wrapped("list<", &[inner], ">"),
            Shape::Map(key, value) => self.wrapped("map<", &[key, value], ">"),
            Shape::Tuple(shapes) => self.tuple(shapes),
            Shape::Array(inner, count) => self.wrapped("[", &[inner], &format!("; {count}]")),
            Shape::Opaque(name) => {
                self.out.push_str("opaque ");
                self.name(name);
            }
            Shape::Named(number) => self.named(*number),
            primitive => {
                let word = PRIMITIVES.iter().find(|(_, shape)| shape == primitive).map(|(word, _)| *word);
                self.out.push_str(word.unwrap_or_default());
            }
        }
    }

    fn wrapped(&mut self, before: &str, shapes: &[&Shape], after: &str) {
        self.out.push_str(before);
        for (i, shape) in shapes.iter().enumerate() {
            self.out.push_str(if i == 0 { "" } else { ", " });
            self.shape(shape);
        }
        self.out.push_str(after);
    }

    fn tuple(&mut self, shapes: &[Shape]) {
        let after = if shapes.len() == 1 { ",)" } else { ")" };
        // `()` is the unit.
        let before = if shapes.is_empty() { "(," } else { "(" };
        self.wrapped(before, &shapes.iter().collect::<Vec<_>>(), after);
    }

    fn named(&mut self, number: usize) {
        let Some(named) = self.schema.types.get(number) else { return };
        if std::mem::replace(&mut self.seen[number], true) {
            self.out.push('&');
            if self.names {
                self.name(&named.name);
            } else {
                self.out.push_str(&number.to_string());
            }
            return;
        }
        let variants = if let Content::Enum(variants) = &named.content { Some(variants) } else { None };
        self.out.push_str(if variants.is_some() { "enum " } else { "struct " });
        if self.names {
            self.name(&named.name);
        }
        match variants {
            Some(variants) => {
                self.braces(variants, |writer, variant| {
                    writer.name(&variant.name);
                    writer.content(&variant.content);
                });
            }
            None => self.content(&named.content),
        }
    }

    fn content(&mut self, content: &Content) {
        match content {
            Content::Unit | Content::Enum(_) => {}
            Content::Newtype(shape) => self.wrapped("(", &[shape], ")"),
            Content::Tuple(shapes) => self.tuple(shapes),
            Content::Struct(fields) => self.braces(fields, |writer, (name, shape)| {
                writer.name(name);
                writer.out.push_str(": ");
                writer.shape(shape);
            }),
        }
    }

    fn braces<T>(&mut self, items: &[T], each: impl Fn(&mut Self, &T)) {
        self.out.push_str(" {");
        for (i, item) in items.iter().enumerate() {
            self.out.push_str(if i == 0 { " " } else { ", " });
            each(self, item);
        }
        self.out.push_str(if items.is_empty() { "}" } else { " }" });
    }

    fn name(&mut self, name: &str) {
        if !name.is_empty() && name.chars().all(is_bare) {
            self.out.push_str(name);
        } else {
            self.out.push('"');
            for c in name.chars() {
                if matches!(c, '"' | '\\') {
                    self.out.push('\\');
                }
                self.out.push(c);
            }
            self.out.push('"');
        }
    }
}

fn is_bare(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '#'
}

const PRIMITIVES: [(&str, Shape); 17] = [
    ("()", Shape::Unit),
    ("bool", Shape::Bool),
    ("i8", Shape::I8),
    ("i16", Shape::I16),
    ("i32", Shape::I32),
    ("i64", Shape::I64),
    ("i128", Shape::I128),
    ("u8", Shape::U8),
    ("u16", Shape::U16),
    ("u32", Shape::U32),
    ("u64", Shape::U64),
    ("u128", Shape::U128),
    ("f32", Shape::F32),
    ("f64", Shape::F64),
    ("char", Shape::Char),
    ("string", Shape::String),
    ("bytes", Shape::Bytes),
];

/// Reads a text. Only the form that [`render`] gives is accepted.
pub(super) fn parse(text: &str) -> Result<Schema> {
    let mut parser = Parser { rest: text, types: Vec::new(), depth: 0 };
    let root = parser.shape().map_err(|e| {
        let at = text.len() - parser.rest.len();
        Error::data(format!("{e} at byte {at} of a schema"))
    })?;
    let schema = Schema { root, types: parser.types };
    if parser.rest.is_empty() && render(&schema, true) == text {
        Ok(schema)
    } else {
        Err(Error::data("a schema is not in its usual form"))
    }
}

/// What was expected and not found.
type Parsed<T> = std::result::Result<T, &'static str>;

struct Parser<'a> {
    rest: &'a str,
    /// A type that is being read has its name already.
    types: Vec<NamedType>,
    depth: usize,
}

impl Parser<'_> {
    fn eat(&mut self, word: &str) -> bool {
        match self.rest.strip_prefix(word) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, word: &str, otherwise: &'static str) -> Parsed<()> {
        if self.eat(word) { Ok(()) } else { Err(otherwise) }
    }

    fn shape(&mut self) -> Parsed<Shape> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("shapes are nested too deeply");
        }
        let shape = self.shape_inner();
        self.depth -= 1;
        shape
    }

    fn shape_inner(&mut self) -> Parsed<Shape> {
        if self.eat("option<") {
            let inner = self.shape()?;
            self.expect(">", "`>` is missing")?;
            return Ok(Shape::Option(Box::new(inner)));
        }
        if self.eat("list<") {
            let inner = self.shape()?;
            self.expect(">", "`>` is missing")?;
            return Ok(Shape::Seq(Box::new(inner)));
        }
        if self.eat("map<") {
            let key = self.shape()?;
            self.expect(", ", "`, ` is missing")?;
            let value = self.shape()?;
            self.expect(">", "`>` is missing")?;
            return Ok(Shape::Map(Box::new(key), Box::new(value)));
        }
        if self.eat("[") {
            let inner = self.shape()?;
            self.expect("; ", "`; ` is missing")?;
            let digits = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
            let (count, rest) = self.rest.split_at(digits);
            self.rest = rest;
            self.expect("]", "`]` is missing")?;
            let count = count.parse().ok().filter(|count| *count <= MAX_ARRAY);
            return Ok(Shape::Array(Box::new(inner), count.ok_or("an array has no sensible length")?));
        }
        if self.eat("opaque ") {
            return Ok(Shape::Opaque(self.name()?));
        }
        if self.eat("&") {
            let name = self.name()?;
            return self.find(&name).map(Shape::Named).ok_or("a type is not defined");
        }
        if self.eat("struct ") {
            return self.named(|parser| parser.content());
        }
        if self.eat("enum ") {
            return self.named(Self::variants);
        }
        let word = PRIMITIVES.iter().filter(|(word, _)| self.rest.starts_with(word));
        if let Some((word, shape)) = word.max_by_key(|(word, _)| word.len()) {
            self.eat(word);
            return Ok(shape.clone());
        }
        if self.eat("(") {
            self.tuple().map(|(shapes, _)| Shape::Tuple(shapes))
        } else {
            Err("no shape is found")
        }
    }

    /// The number of the type `name`.
    fn find(&self, name: &str) -> Option<usize> {
        self.types.iter().position(|named| named.name == name)
    }

    fn named(&mut self, content: impl FnOnce(&mut Self) -> Parsed<Content>) -> Parsed<Shape> {
        let name = self.name()?;
        if self.find(&name).is_some() {
            return Err("a type is defined twice");
        }
        let number = self.types.len();
        self.types.push(NamedType { name, content: Content::Unit });
        let content = content(self)?;
        self.types[number].content = content;
        Ok(Shape::Named(number))
    }

    /// What follows an opening parenthesis, and whether it is a newtype.
    fn tuple(&mut self) -> Parsed<(Vec<Shape>, bool)> {
        if self.eat(",)") {
            return Ok((Vec::new(), false));
        }
        let mut shapes = vec![self.shape()?];
        while self.eat(", ") {
            shapes.push(self.shape()?);
        }
        let newtype = shapes.len() == 1 && !self.eat(",");
        self.expect(")", "`)` is missing")?;
        Ok((shapes, newtype))
    }

    fn content(&mut self) -> Parsed<Content> {
        if self.eat("(") {
            let (mut shapes, newtype) = self.tuple()?;
            return Ok(match shapes.pop() {
                Some(shape) if newtype => Content::Newtype(shape),
                Some(shape) => {
                    shapes.push(shape);
                    Content::Tuple(shapes)
                }
                None => Content::Tuple(shapes),
            });
        }
        if !self.rest.starts_with(" {") {
            return Ok(Content::Unit);
        }
        self.braces(|parser| {
            let name = Name::from(parser.name()?);
            parser.expect(": ", "`: ` is missing")?;
            Ok((name, parser.shape()?))
        })
        .map(Content::Struct)
    }

    fn variants(&mut self) -> Parsed<Content> {
        self.braces(|parser| {
            let name = Name::from(parser.name()?);
            Ok(Variant { name, content: parser.content()? })
        })
        .map(Content::Enum)
    }

    fn braces<T>(&mut self, mut each: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.expect(" {", "`{` is missing")?;
        let mut items = Vec::new();
        if self.eat("}") {
            return Ok(items);
        }
        self.expect(" ", "a space is missing")?;
        loop {
            items.push(each(self)?);
            if !self.eat(", ") {
                break;
            }
        }
        self.expect(" }", "`}` is missing")?;
        Ok(items)
    }

    fn name(&mut self) -> Parsed<String> {
        if !self.eat("\"") {
            let end = self.rest.find(|c| !is_bare(c)).unwrap_or(self.rest.len());
            let (name, rest) = self.rest.split_at(end);
            self.rest = rest;
            return if name.is_empty() { Err("a name is missing") } else { Ok(name.to_owned()) };
        }
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(name);
                }
                '\\' => name.push(chars.next().ok_or("a name does not end")?.1),
                c => name.push(c),
            }
        }
        Err("a name does not end")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_comes_back() {
        for text in [
            "u64",
            "()",
            "(u8,)",
            "(,)",
            "[option<i128>; 16]",
            "map<string, list<(bool, bytes)>>",
            "struct Count { total: u64, \"odd \\\"name\\\\\": f32 }",
            "struct Nothing",
            "struct Empty {}",
            "struct Meters(f64)",
            "struct One(f64,)",
            "struct Node { next: option<&Node> }",
            "enum Event { Click, Scroll(f32), Drag(u8, u8), Key { code: u16 }, None(,) }",
            "enum Never {}",
            "(struct A { x: enum A#2 { B } }, &A, &A#2)",
            "option<opaque \"Vec<Foo>\">",
        ] {
            let schema = parse(text).unwrap();
            assert_eq!(schema.to_string(), text);
        }
    }

    #[test]
    fn the_fingerprint_is_that_of_the_text_without_type_names() {
        let fingerprint = |text| parse(text).unwrap().fingerprint();
        assert_eq!(fingerprint("struct A { x: u8 }"), fingerprint("struct B { x: u8 }"));
        assert_ne!(fingerprint("struct A { x: u8 }"), fingerprint("struct A { y: u8 }"));
        assert_ne!(fingerprint("struct A { x: u8 }"), fingerprint("struct A { x: u16 }"));
        assert_ne!(fingerprint("(struct A, struct B, &A)"), fingerprint("(struct A, struct B, &B)"));
        let text = "struct Count { total: u64 }";
        let bare = "struct  { total: u64 }";
        assert_eq!(fingerprint(text), xxhash_rust::xxh3::xxh3_64(bare.as_bytes()));
    }

    #[test]
    fn what_is_not_a_schema_is_refused() {
        for text in [
            "",
            "u63",
            "option<u8",
            "u8 ",
            "struct A { x u8 }",
            "&A",
            "(struct A, struct A)",
            "[u8; 99999999999]",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let deep = "option<".repeat(100_000);
        assert!(parse(&deep).unwrap_err().to_string().contains("too deeply"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back(text in "[a-z0-9<>(){},:; &\"\\\\#]{0,40}|(struct|enum|option<|list<|u8|, |&|A|\\{ | \\}|\\(|\\)|>){0,20}") {
            if let Ok(schema) = parse(&text) {
                prop_assert_eq!(schema.to_string(), text);
            }
        }
    }
}
