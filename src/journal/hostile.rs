//! Forged recordings with correct checksums.

use super::*;

/// Of this header and a block of these entries; where there is none, the bytes begin with the length of one.
pub(crate) fn sealed(header: Option<&Header>, bytes: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let entries = match (header, bytes) {
        (Some(header), entries) => {
            append_header(&mut file, header);
            entries
        }
        (None, [high, low, bytes @ ..]) => {
            let length = usize::from(u16::from_be_bytes([*high, *low])).min(bytes.len());
            file.extend([&MAGIC[..], &FORMAT.to_le_bytes()].concat());
            append_block(&mut file, &bytes[..length]);
            &bytes[length..]
        }
        (None, _) => bytes,
    };
    append_block(&mut file, entries);
    file
}

fn append_block(file: &mut Vec<u8>, payload: &[u8]) {
    let start = begin_block(file);
    file.extend(&payload[..payload.len().min(BLOCK_BYTES_MAX)]);
    seal_block(file, start);
}
