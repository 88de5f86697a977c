//! Attributes (`struct rtattr`), and the numbers and names in them.

use netlink_packet_core::{DefaultNla, Emitable, NLA_HEADER_SIZE, NlasIterator};

/// One attribute of a message to the kernel.
pub(crate) type Attribute = DefaultNla;

/// A number.
pub(crate) fn number(kind: u16, value: u32) -> Attribute {
    Attribute::new(kind, value.to_ne_bytes().to_vec())
}

/// A name.
pub(crate) fn text(kind: u16, value: &str) -> Attribute {
    Attribute::new(kind, [value.as_bytes(), &[0]].concat())
}

/// Attributes in an attribute.
pub(crate) fn nest(kind: u16, attributes: &[Attribute]) -> Attribute {
    Attribute::new(kind, with(Vec::new(), attributes))
}

/// A message's fixed part, with attributes behind it.
pub(crate) fn with(mut fixed: Vec<u8>, attributes: &[Attribute]) -> Vec<u8> {
    let end = fixed.len();
    fixed.resize(end + attributes.buffer_len(), 0);
    if let Some(rest) = fixed.get_mut(end..) {
        attributes.emit(rest);
    }
    fixed
}

/// What the first attribute of this kind holds.
pub(crate) fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let found = NlasIterator::new(attributes)
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == kind)?;
    let length = usize::from(found.length());
    found.into_inner().get(NLA_HEADER_SIZE..length)
}

/// The 32-bit number at this offset of a kernel structure.
pub(crate) fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes
        .get(offset..)?
        .first_chunk()
        .copied()
        .map(u32::from_ne_bytes)
}

/// A 64-bit number.
pub(crate) fn long(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().copied().map(u64::from_ne_bytes)
}

/// A name, without what ends it.
pub(crate) fn name(bytes: &[u8]) -> Option<&str> {
    let name = bytes.split(|byte| *byte == 0).next()?;
    str::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found() {
        let inner = [text(1, "htb"), number(2, 7)];
        let message = with(
            vec![9; 8],
            &[text(3, "br-lan"), nest(0x8000 | 18, &inner), number(4, 1)],
        );
        let attributes = &message[8..];
        assert_eq!(attribute(attributes, 3).and_then(name), Some("br-lan"));
        assert_eq!(attribute(attributes, 4).and_then(|a| word(a, 0)), Some(1));
        let inner = attribute(attributes, 18).unwrap();
        assert_eq!(attribute(inner, 1).and_then(name), Some("htb"));
        assert_eq!(attribute(inner, 2).and_then(|a| word(a, 0)), Some(7));
        assert_eq!(attribute(inner, 3), None);
    }

    #[test]
    fn what_is_cut_short_is_not_there() {
        let whole = with(Vec::new(), &[number(1, 7), text(2, "x")]);
        for length in 0..whole.len() - 2 {
            assert_eq!(attribute(&whole[..length], 2), None, "{length}");
        }
        for wrong in [[0, 0, 1, 0], [3, 0, 1, 0], [255, 255, 1, 0]] {
            assert_eq!(attribute(&wrong, 1), None);
        }
        assert_eq!(word(&[1, 2, 3], 0), None);
        assert_eq!(word(&[1, 2, 3, 4], 9), None);
        assert_eq!(long(&[0; 7]), None);
    }
}
