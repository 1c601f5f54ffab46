use super::*;
use crate::{Codec, ErrorKind};

#[test]
fn a_row_that_its_descriptor_does_not_fit_is_damage() {
    let descriptor = StateDescriptor::new::<u16>("s", StateKind::Value, Codec::Bincode).unwrap();
    let types = RowTypes::new("u8", &descriptor);
    assert!(types.entry(&[1], &[2]).is_ok());
    for (key, value) in [(&[][..], &[2][..]), (&[1, 1], &[2]), (&[1], &[]), (&[1], &[2, 2])] {
        assert_eq!(types.entry(key, value).unwrap_err().kind(), ErrorKind::Data, "{key:?} {value:?}");
    }
    let timers = StateDescriptor::new::<i64>("t", StateKind::Timer, Codec::Bincode).unwrap();
    let types = RowTypes::new("u8", &timers);
    for (key, value) in [(&[1; 7][..], &[][..]), (&[1; 8], &[]), (&[1; 10], &[]), (&[1; 9], &[0])] {
        assert_eq!(types.entry(key, value).unwrap_err().kind(), ErrorKind::Data, "{key:?} {value:?}");
    }
}

#[test]
fn values_without_a_shape_are_shown_as_bytes() {
    let mut descriptor = StateDescriptor::new::<u16>("s", StateKind::List, Codec::Bincode).unwrap();
    descriptor.schema = Schema::opaque::<ErrorKind>();
    descriptor.value_type = "ErrorKind".into();
    let entry = RowTypes::new("u8", &descriptor).entry(&[1], &[2, 7, 8, 0]).unwrap();
    let raw = |bytes: &[u8]| Part::raw("ErrorKind", bytes);
    assert_eq!(entry.value, Some(Part::List(vec![raw(&[7, 8]), raw(&[])])));
}
