//! Random schemas, values and bytes.

use proptest::prelude::*;

use super::{Content, NamedType, Schema, Shape, Value, Variant};
use crate::codec::Codec;
use crate::schema::samples::samples;

fn primitive() -> impl Strategy<Value = Shape> {
    proptest::sample::select(vec![
        Shape::Unit,
        Shape::Bool,
        Shape::I8,
        Shape::I16,
        Shape::I32,
        Shape::I64,
        Shape::I128,
        Shape::U8,
        Shape::U16,
        Shape::U32,
        Shape::U64,
        Shape::U128,
        Shape::F32,
        Shape::F64,
        Shape::Char,
        Shape::String,
        Shape::Bytes,
        // Only where it has a finite value.
        Shape::Option(Box::new(Shape::Named(0))),
        Shape::Seq(Box::new(Shape::Named(1))),
    ])
}

fn shape() -> impl Strategy<Value = Shape> {
    primitive().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|s| Shape::Option(Box::new(s))),
            inner.clone().prop_map(|s| Shape::Seq(Box::new(s))),
            (inner.clone(), inner.clone()).prop_map(|(k, v)| Shape::Map(Box::new(k), Box::new(v))),
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Shape::tuple),
            (inner, 0..4usize).prop_map(|(s, n)| Shape::Array(Box::new(s), n)),
        ]
    })
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        Just(Content::Unit),
        shape().prop_map(Content::Newtype),
        proptest::collection::vec(shape(), 0..4).prop_map(Content::Tuple),
        proptest::collection::vec(shape(), 0..4).prop_map(|shapes| {
            Content::Struct((0..).map(|i| format!("field {i}").into()).zip(shapes).collect())
        }),
    ]
}

/// A root, a struct and an enum, which may refer to each other.
fn schema() -> impl Strategy<Value = Schema> {
    (shape(), content(), proptest::collection::vec(content(), 1..4)).prop_map(|(root, a, variants)| {
        let name = |i: usize| format!("V{i}").into();
        let variants = variants.into_iter().enumerate();
        let variants = variants.map(|(i, content)| Variant { name: name(i), content }).collect();
        let types = vec![
            NamedType { name: "A".into(), content: a },
            NamedType { name: "B".into(), content: Content::Enum(variants) },
        ];
        let root = Shape::Tuple(vec![Shape::Named(0), root, Shape::Named(1)]);
        Schema { root, types }
    })
}

/// A value, by choices that come from `bytes`.
fn value(schema: &Schema, shape: &Shape, choices: &mut impl Iterator<Item = u8>, depth: usize) -> Value {
    let choice = choices.next().unwrap_or(0);
    let wide =
        || u128::from(choice).wrapping_mul(0x0101_0101_0101_0101_0101_0101_0101_0101) >> (choice % 128);
    let count = if depth == 0 { 0 } else { usize::from(choice % 3) };
    match shape {
        Shape::Unit => Value::Unit,
        Shape::Bool => Value::Bool(choice % 2 == 1),
        Shape::I8 => Value::I8(choice as i8),
        Shape::I16 => Value::I16(wide() as i16),
        Shape::I32 => Value::I32(wide() as i32),
        Shape::I64 => Value::I64(wide() as i64),
        Shape::I128 => Value::I128(wide() as i128),
        Shape::U8 => Value::U8(choice),
        Shape::U16 => Value::U16(wide() as u16),
        Shape::U32 => Value::U32(wide() as u32),
        Shape::U64 => Value::U64(wide() as u64),
        Shape::U128 => Value::U128(wide()),
        Shape::F32 => Value::F32(f32::from(choice) / 3.0),
        Shape::F64 => Value::F64(f64::from(choice) / 3.0),
        Shape::Char => Value::Char(char::from_u32(u32::from(choice) * 37).unwrap_or('x')),
        Shape::String => Value::String("é\0x".repeat(count)),
        Shape::Bytes => Value::Bytes(vec![choice; count]),
        Shape::Option(_) if count == 0 => Value::None,
        Shape::Option(inner) => Value::Some(Box::new(value(schema, inner, choices, depth - 1))),
        Shape::Seq(inner) => {
            Value::Seq((0..count).map(|_| value(schema, inner, choices, depth - 1)).collect())
        }
        Shape::Map(k, v) => {
            let mut entry = || (value(schema, k, choices, depth - 1), value(schema, v, choices, depth - 1));
            Value::Map((0..count).map(|_| entry()).collect())
        }
        Shape::Tuple(shapes) => {
            Value::Tuple(shapes.iter().map(|s| value(schema, s, choices, depth.saturating_sub(1))).collect())
        }
        Shape::Array(inner, n) => {
            Value::Tuple((0..*n).map(|_| value(schema, inner, choices, depth.saturating_sub(1))).collect())
        }
        Shape::Named(number) => match &schema.types[*number].content {
            Content::Enum(variants) => {
                let variant = &variants[usize::from(choice) % variants.len()];
                let content = content_value(schema, &variant.content, choices, depth.saturating_sub(1));
                Value::Variant(variant.name.clone(), Box::new(content))
            }
            content => content_value(schema, content, choices, depth.saturating_sub(1)),
        },
        Shape::Opaque(_) => unreachable!("not generated"),
    }
}

fn content_value(
    schema: &Schema,
    content: &Content,
    choices: &mut impl Iterator<Item = u8>,
    depth: usize,
) -> Value {
    match content {
        Content::Unit | Content::Enum(_) => Value::Unit,
        Content::Newtype(shape) => value(schema, shape, choices, depth),
        Content::Tuple(shapes) => {
            Value::Tuple(shapes.iter().map(|s| value(schema, s, choices, depth)).collect())
        }
        Content::Struct(fields) => Value::Struct(
            fields.iter().map(|(name, s)| (name.clone(), value(schema, s, choices, depth))).collect(),
        ),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// What is written comes back as the same tree, and the tree as the same bytes, in both codecs.
    #[test]
    fn trees_and_bytes_become_each_other(
        schema in schema(),
        choices in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let value = value(&schema, &schema.root, &mut choices.into_iter(), 4);
        for codec in [Codec::Bincode, Codec::Postcard] {
            let mut bytes = Vec::new();
            schema.encode(codec, &value, &mut bytes).unwrap();
            let read = schema.decode(codec, &bytes).unwrap();
            prop_assert_eq!(&read, &value);
            let mut again = Vec::new();
            schema.encode(codec, &read, &mut again).unwrap();
            prop_assert_eq!(again, bytes);
        }
        serde_json::to_string(&value).unwrap();
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        schema in schema(),
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0..3u8, 250..=255u8], 0..60),
    ) {
        for codec in [Codec::Bincode, Codec::Postcard] {
            let _ = schema.decode(codec, &bytes);
        }
    }

    /// Every sample fits its schema, and together they hold every variant there is.
    #[test]
    fn samples_are_values(schema in schema(), candidate in 0..4usize) {
        let samples = samples(&schema, candidate);
        for sample in &samples {
            let mut bytes = Vec::new();
            schema.encode(Codec::Bincode, sample, &mut bytes).unwrap();
        }
        if !samples.is_empty() {
            let all = format!("{samples:?}");
            let Content::Enum(variants) = &schema.types[1].content else { unreachable!() };
            for variant in variants {
                prop_assert!(all.contains(&format!("Variant({:?}", variant.name)), "{}", variant.name);
            }
        }
    }
}

#[test]
fn endless_and_deep_values_are_refused_before_they_take_memory() {
    let list = Schema::parse("list<()>").unwrap();
    let e = list.decode(Codec::Bincode, &[253, 0, 0, 0, 0, 0, 1, 0, 0]).unwrap_err().to_string();
    assert!(e.contains("more elements"), "{e}");
    let node = Schema::parse("struct Node(option<&Node>)").unwrap();
    let e = node.decode(Codec::Postcard, &[1; 100_000]).unwrap_err();
    assert_eq!(e.kind(), crate::ErrorKind::Data);
    assert!(node.decode(Codec::Bincode, &[1, 1, 1, 0]).is_ok());
    // More nodes than there are atoms: no sample is made of it.
    let mut huge = String::from("u8");
    for _ in 0..20 {
        huge = format!("[{huge}; 1000000]");
    }
    assert!(samples(&Schema::parse(&huge).unwrap(), 0).is_empty());
    let mut twice = String::from("struct T0 { a: u8 }");
    for i in 1..60 {
        twice = format!("struct T{i} {{ a: {twice}, b: &T{} }}", i - 1);
    }
    assert!(samples(&Schema::parse(&twice).unwrap(), 0).is_empty());
}
