//! The kernel's own type information: where a field lies, and whether a function exists.
//!
//! Only what the agent asks for: offsets of members, names of functions and enumerators. The format is
//! the kernel's `Documentation/bpf/btf.rst`; crates that read it come with a copyleft licence or keep it private.

use std::collections::{HashMap, HashSet};

/// Where the running kernel shows its types.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
/// Members looked at for one question: more than any structure of a kernel has, unnamed ones inside it included. In
/// circles of malformed ones there would be no end of them.
const MEMBERS_LOOKED_AT: u32 = 10_000;

const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC: u32 = 12;
const KIND_ENUM64: u32 = 19;

/// Why type information could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file is not there or not readable.
    #[error("cannot read {KERNEL_BTF}: {0}")]
    Read(#[from] std::io::Error),
    /// The bytes are not BTF as this kernel generation writes it.
    #[error("{KERNEL_BTF} is malformed at byte {0}")]
    Malformed(usize),
}

struct Member {
    name: u32,
    kind: u32,
    bit_offset: u32,
}

/// Types by name.
pub struct KernelTypes {
    strings: Vec<u8>,
    /// Members of every structure and union, by type id.
    members: HashMap<u32, Vec<Member>>,
    structures: HashMap<String, u32>,
    functions: HashSet<String>,
    enumerators: HashSet<String>,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn u32(&mut self) -> Result<u32, BtfError> {
        let end = self.at + 4;
        let bytes = self.bytes.get(self.at..end).ok_or(BtfError::Malformed(self.at))?;
        self.at = end;
        let mut word = [0; 4];
        word.copy_from_slice(bytes);
        Ok(u32::from_ne_bytes(word))
    }

    fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }
}

impl KernelTypes {
    /// Reads the running kernel's types.
    ///
    /// # Errors
    /// When the kernel shows none, or they are malformed.
    pub fn of_kernel() -> Result<Self, BtfError> {
        Self::parse(&std::fs::read(KERNEL_BTF)?)
    }

    /// Parses BTF bytes.
    ///
    /// # Errors
    /// When they are malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let mut header = Reader { bytes, at: 0 };
        let magic = header.u32()? & 0xffff;
        let header_bytes = header.u32()? as usize;
        let (type_offset, type_bytes) = (header.u32()? as usize, header.u32()? as usize);
        let (string_offset, string_bytes) = (header.u32()? as usize, header.u32()? as usize);
        if magic != u32::from(MAGIC) {
            return Err(BtfError::Malformed(0));
        }
        let section = |offset: usize, len: usize| {
            let start = header_bytes.checked_add(offset)?;
            bytes.get(start..start.checked_add(len)?)
        };
        let strings = section(string_offset, string_bytes).ok_or(BtfError::Malformed(16))?.to_vec();
        let types = section(type_offset, type_bytes).ok_or(BtfError::Malformed(8))?;
        let mut all = Self {
            strings,
            members: HashMap::new(),
            structures: HashMap::new(),
            functions: HashSet::new(),
            enumerators: HashSet::new(),
        };
        let mut reader = Reader { bytes: types, at: 0 };
        let mut id = 1;
        while reader.at < types.len() {
            all.read_type(&mut reader, id)?;
            id += 1;
        }
        Ok(all)
    }

    fn read_type(&mut self, reader: &mut Reader<'_>, id: u32) -> Result<(), BtfError> {
        let start = reader.at;
        let (name, info) = (reader.u32()?, reader.u32()?);
        reader.skip(4);
        let (count, kind) = ((info & 0xffff) as usize, (info >> 24) & 0x1f);
        let bitfields = info >> 31 == 1;
        match kind {
            KIND_STRUCT | KIND_UNION => {
                let mut members = Vec::with_capacity(count);
                for _ in 0..count {
                    let (name, kind, offset) = (reader.u32()?, reader.u32()?, reader.u32()?);
                    let bit_offset = if bitfields { offset & 0x00ff_ffff } else { offset };
                    members.push(Member { name, kind, bit_offset });
                }
                self.members.insert(id, members);
                if kind == KIND_STRUCT && name != 0 {
                    let name = self.string(name).to_owned();
                    self.structures.entry(name).or_insert(id);
                }
            }
            KIND_ENUM | KIND_ENUM64 => {
                for _ in 0..count {
                    let name = reader.u32()?;
                    reader.skip(if kind == KIND_ENUM { 4 } else { 8 });
                    let name = self.string(name).to_owned();
                    self.enumerators.insert(name);
                }
            }
            KIND_FUNC => {
                let name = self.string(name).to_owned();
                self.functions.insert(name);
            }
            // Pointer, forward, typedef, volatile, const, restrict, float, type tag.
            2 | 7..=11 | 16 | 18 => {}
            // Integer, variable, declaration tag.
            1 | 14 | 17 => reader.skip(4),
            // Array.
            3 => reader.skip(12),
            // Function prototype, data section.
            13 => reader.skip(count * 8),
            15 => reader.skip(count * 12),
            _ => return Err(BtfError::Malformed(start)),
        }
        Ok(())
    }

    fn string(&self, offset: u32) -> &str {
        let bytes = self.strings.get(offset as usize..).unwrap_or_default();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        std::str::from_utf8(&bytes[..end]).unwrap_or_default()
    }

    /// Byte offset of a member, unnamed structures and unions inside looked through.
    #[must_use]
    pub fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        let mut left = MEMBERS_LOOKED_AT;
        self.find(*self.structures.get(structure)?, member, 0, &mut left)
            .filter(|bits| bits % 8 == 0)
            .map(|bits| bits / 8)
    }

    fn find(&self, id: u32, wanted: &str, depth: u8, left: &mut u32) -> Option<u32> {
        // Nested deeper than anything a kernel has: malformed, perhaps circular.
        if depth > 16 {
            return None;
        }
        self.members.get(&id)?.iter().find_map(|member| {
            *left = left.checked_sub(1)?;
            if member.name == 0 {
                let inside = self.find(member.kind, wanted, depth + 1, left)?;
                member.bit_offset.checked_add(inside)
            } else {
                (self.string(member.name) == wanted).then_some(member.bit_offset)
            }
        })
    }

    /// Whether the kernel has a function of this name.
    #[must_use]
    pub fn has_function(&self, name: &str) -> bool {
        self.functions.contains(name)
    }

    /// Whether the kernel has a structure of this name.
    #[must_use]
    pub fn has_structure(&self, name: &str) -> bool {
        self.structures.contains_key(name)
    }

    /// Whether some enumeration of the kernel has this constant.
    #[must_use]
    pub fn has_enumerator(&self, name: &str) -> bool {
        self.enumerators.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arbitrary_bytes_are_an_error_not_a_panic() {
        assert!(KernelTypes::parse(&[]).is_err());
        assert!(KernelTypes::parse(&[0x9f, 0xeb, 1, 0, 24, 0, 0, 0]).is_err());
        let mut header = vec![0x9f, 0xeb, 1, 0];
        for word in [24_u32, 0, 12, 12, 1] {
            header.extend_from_slice(&word.to_ne_bytes());
        }
        // One structure that claims a member and ends.
        for word in [0_u32, 4 << 24 | 1, 0] {
            header.extend_from_slice(&word.to_ne_bytes());
        }
        header.push(0);
        assert!(matches!(KernelTypes::parse(&header), Err(BtfError::Malformed(_))));
    }

    #[test]
    fn circles_are_left_in_time() {
        // struct a has 40 unnamed members, each of which is it again, far away.
        let strings = b"\0a\0";
        let mut words = vec![1_u32, 4 << 24 | 40, 8];
        words.extend([0, 1, u32::MAX - 7].repeat(40));
        let length = 4 * words.len() as u32;
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, length, length, strings.len() as u32].iter().chain(&words) {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(strings);
        let types = KernelTypes::parse(&bytes).unwrap();
        assert_eq!(types.offset("a", "x"), None);
    }

    #[test]
    fn finds_members_through_unnamed_unions() {
        // struct a { int x; union { int y; } } as type 2, the union as type 1.
        let strings = b"\0a\0x\0y\0";
        let words: [u32; 15] = [
            0,
            5 << 24 | 1,
            4,
            5,
            9,
            0, // union { y }
            1,
            4 << 24 | 2,
            8,
            3,
            9,
            0,
            0,
            1,
            32, // struct a
        ];
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, 60, 60, strings.len() as u32] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        for word in words {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(strings);
        let types = KernelTypes::parse(&bytes).unwrap();
        assert_eq!(types.offset("a", "x"), Some(0));
        assert_eq!(types.offset("a", "y"), Some(4));
        assert_eq!(types.offset("a", "z"), None);
        assert_eq!(types.offset("b", "x"), None);
    }
}
