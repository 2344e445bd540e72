//! How much stack the kernel programs use: the verifier of older kernels allows 512 bytes for all calls that are under way
//! together, each rounded up to 32.

use std::{collections::HashMap, iter};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SymbolKind};

/// Bytes for all frames together.
const LIMIT: usize = 512;
/// What a frame is rounded up to.
const ROUNDING: usize = 32;
/// Bytes of an instruction.
const INSTRUCTION: usize = 8;
/// The register that points to the end of the frame.
const FRAME: usize = 10;
/// Registers 0 to 10, and five that no program has.
const REGISTERS: usize = 16;

/// Where a function begins.
type Place = (SectionIndex, u64);

struct Function {
    name: String,
    /// Bytes of its own frame, as rounded.
    frame: usize,
    calls: Vec<Place>,
}

/// The program that needs most, with so many bytes.
///
/// # Errors
/// When the object cannot be read, or a program needs more than older kernels allow.
pub fn deepest(object: &[u8]) -> Result<(String, usize)> {
    let functions = functions(object)?;
    let depths = functions.iter().map(|(place, function)| {
        let bytes = depth(&functions, *place, &mut Vec::new());
        (bytes, function.name.clone())
    });
    let (bytes, name) = depths.max().context("no functions in the kernel object")?;
    if bytes > LIMIT {
        bail!("{name} and what it calls use {bytes} bytes of stack, of {LIMIT}");
    }
    Ok((name, bytes))
}

/// Of a function and what it calls. No program calls itself: the verifier would refuse it.
fn depth(functions: &HashMap<Place, Function>, place: Place, above: &mut Vec<Place>) -> usize {
    let Some(function) = functions.get(&place).filter(|_| !above.contains(&place)) else {
        return 0;
    };
    above.push(place);
    let called = function.calls.iter().map(|call| depth(functions, *call, above));
    let deepest = called.max().unwrap_or(0);
    above.pop();
    function.frame + deepest
}

fn functions(bytes: &[u8]) -> Result<HashMap<Place, Function>> {
    let file = object::File::parse(bytes).context("read the kernel object")?;
    let mut functions = HashMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let Some(index) = symbol.section_index() else { continue };
        let section = file.section_by_index(index)?;
        let relocations: HashMap<u64, Place> = section
            .relocations()
            .filter_map(|(at, relocation)| {
                let RelocationTarget::Symbol(target) = relocation.target() else { return None };
                let target = file.symbol_by_index(target).ok()?;
                Some((at, (target.section_index()?, target.address())))
            })
            .collect();
        let start = symbol.address();
        let code = section.data_range(start, symbol.size())?;
        let code = code.with_context(|| format!("{:?} is not all there", symbol.name()))?;
        let calls = calls(code).map(|(at, imm)| {
            // Counted from the next instruction on; with a relocation, from that of its symbol.
            let (section, from) = match relocations.get(&(start + at)) {
                Some((section, address)) => (*section, *address),
                None => (index, start + at),
            };
            (section, from.wrapping_add_signed((i64::from(imm) + 1) * INSTRUCTION as i64))
        });
        let function = Function {
            name: symbol.name()?.to_owned(),
            frame: frame(code).max(1).next_multiple_of(ROUNDING),
            calls: calls.collect(),
        };
        functions.insert((index, start), function);
    }
    Ok(functions)
}

struct Instruction {
    at: u64,
    code: u8,
    to: usize,
    from: usize,
    offset: i16,
    imm: i32,
}

/// Instructions; of those that take the room of two, the first half.
fn instructions(code: &[u8]) -> impl Iterator<Item = Instruction> {
    let mut at = 0;
    iter::from_fn(move || {
        let bytes: [u8; INSTRUCTION] = code.get(at..at + INSTRUCTION)?.try_into().ok()?;
        let [code, registers, offset_low, offset_high, imm @ ..] = bytes;
        let instruction = Instruction {
            at: at as u64,
            code,
            to: usize::from(registers & 0xf),
            from: usize::from(registers >> 4),
            offset: i16::from_le_bytes([offset_low, offset_high]),
            imm: i32::from_le_bytes(imm),
        };
        // Loads of 64 bits at once.
        at += if code == 0x18 { 2 * INSTRUCTION } else { INSTRUCTION };
        Some(instruction)
    })
}

/// Calls of the object's own functions: where, and how far away.
fn calls(code: &[u8]) -> impl Iterator<Item = (u64, i32)> {
    let calls = instructions(code).filter(|it| it.code == 0x85 && it.from == 1);
    calls.map(|it| (it.at, it.imm))
}

/// How far below the end of its frame a function reaches: by loads and stores, and by addresses that it makes.
fn frame(code: &[u8]) -> usize {
    let mut deepest = 0_i32;
    let mut is_end = [false; REGISTERS];
    is_end[FRAME] = true;
    for it in instructions(code) {
        let below = match it.code & 7 {
            // Loads from memory; stores.
            1 if is_end[it.from] => i32::from(it.offset),
            2 | 3 if is_end[it.to] => i32::from(it.offset),
            // An addition to a copy of the register.
            7 if it.code == 0x07 && is_end[it.to] => it.imm,
            _ => 0,
        };
        deepest = deepest.min(below);
        if !matches!(it.code & 7, 2 | 3 | 5 | 6) {
            is_end[it.to] = it.code == 0xbf && is_end[it.from];
        }
    }
    deepest.unsigned_abs() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_deep_as_what_is_touched() {
        // r1 = r10; r1 += -0x36
        let address = [[0xbf, 0xa1, 0, 0, 0, 0, 0, 0], [0x07, 1, 0, 0, 0xca, 0xff, 0xff, 0xff]];
        assert_eq!(frame(address.as_flattened()), 0x36);
        // r1 = r2; r1 += -0x36
        let elsewhere = [[0xbf, 0x21, 0, 0, 0, 0, 0, 0], address[1]];
        assert_eq!(frame(elsewhere.as_flattened()), 0);
        // *(u64 *)(r10 - 0x60) = r1, and r1 = *(u64 *)(r10 - 0x68)
        assert_eq!(frame(&[0x7b, 0x1a, 0xa0, 0xff, 0, 0, 0, 0]), 0x60);
        assert_eq!(frame(&[0x79, 0xa1, 0x98, 0xff, 0, 0, 0, 0]), 0x68);
        // r1 = r10; r2 = r1; *(u64 *)(r2 - 0x60) = r3
        let copied =
            [address[0], [0xbf, 0x12, 0, 0, 0, 0, 0, 0], [0x7b, 0x32, 0xa0, 0xff, 0, 0, 0, 0]];
        assert_eq!(frame(copied.as_flattened()), 0x60);
    }

    #[test]
    fn calls_of_helpers_are_none() {
        let code = [[0x85, 0, 0, 0, 5, 0, 0, 0], [0x85, 0x10, 0, 0, 0xff, 0xff, 0xff, 0xff]];
        assert_eq!(calls(code.as_flattened()).collect::<Vec<_>>(), [(8, -1)]);
    }

    #[test]
    fn the_kept_object_is_followed_through_its_calls() {
        let object = std::fs::read(crate::workspace().join(super::super::OBJECT)).unwrap();
        let functions = functions(&object).unwrap();
        let walk = functions.iter().find(|(_, it)| it.name == "weft_walk_tcp").unwrap();
        let deep = depth(&functions, *walk.0, &mut Vec::new());
        // It takes a slot, which looks for others that reach the same server.
        assert!(deep >= walk.1.frame + 3 * ROUNDING, "{deep} of {}", walk.1.frame);
        assert!(deepest(&object).unwrap().1 >= deep);
    }
}
