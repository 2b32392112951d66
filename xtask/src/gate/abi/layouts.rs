//! Sizes and fields of types, from debug information.

use anyhow::{Context as _, Result};
use gimli::{AttributeValue, DwTag, EndianSlice, RunTimeEndian, UnitOffset};
use model::abi::Layouts;
use object::{Object as _, ObjectSection as _};
use std::borrow::Cow;

type Reader<'a> = EndianSlice<'a, RunTimeEndian>;
type Entry<'a> = gimli::DebuggingInformationEntry<Reader<'a>>;

/// How deep types are described that have no name; deeper ones than this nobody writes.
const DEEPEST: usize = 12;

/// Every named type of a linked object file.
pub(super) fn of(bytes: &[u8]) -> Result<Layouts> {
    let object = object::File::parse(bytes)?;
    let endian = if object.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let section = |id: gimli::SectionId| -> Result<Cow<'_, [u8]>, object::Error> {
        object.section_by_name(id.name()).map_or(Ok(Cow::Borrowed(&[][..])), |section| section.uncompressed_data())
    };
    let sections = gimli::DwarfSections::load(section)?;
    let dwarf = sections.borrow(|bytes| EndianSlice::new(bytes, endian));
    let mut layouts = Layouts::new();
    let mut headers = dwarf.units();
    while let Some(header) = headers.next()? {
        let unit = dwarf.unit(header)?;
        let types = Types { dwarf: &dwarf, unit: &unit };
        let mut tree = unit.entries_tree(None)?;
        let mut top = tree.root()?.children();
        while let Some(node) = top.next()? {
            let entry = node.entry();
            let offset = entry.offset();
            let Some(name) = types.name(entry)? else { continue };
            match entry.tag() {
                gimli::DW_TAG_typedef => {
                    layouts.insert(name, vec![types.target(entry, 0)?]);
                }
                tag => {
                    // One that is only declared says nothing.
                    let declared = entry.attr(gimli::DW_AT_declaration).is_some();
                    if let Some(word) = word_of(tag).filter(|_| !declared) {
                        layouts.insert(format!("{word} {name}"), types.lines(offset, 0)?);
                    }
                }
            }
        }
    }
    Ok(layouts)
}

fn word_of(tag: DwTag) -> Option<&'static str> {
    match tag {
        gimli::DW_TAG_structure_type => Some("struct"),
        gimli::DW_TAG_union_type => Some("union"),
        gimli::DW_TAG_enumeration_type => Some("enum"),
        _ => None,
    }
}

struct Types<'a, 'd> {
    dwarf: &'d gimli::Dwarf<Reader<'a>>,
    unit: &'d gimli::Unit<Reader<'a>>,
}

impl<'a> Types<'a, '_> {
    /// Size, then every field or value of the type at `offset`.
    fn lines(&self, offset: UnitOffset, depth: usize) -> Result<Vec<String>> {
        let mut tree = self.unit.entries_tree(Some(offset))?;
        let root = tree.root()?;
        let size = number(root.entry(), gimli::DW_AT_byte_size);
        let mut lines = vec![size.map_or_else(|| "no size".to_owned(), |bytes| format!("{bytes} bytes"))];
        let mut children = root.children();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            let name = self.name(entry)?.unwrap_or_default();
            match entry.tag() {
                gimli::DW_TAG_member => {
                    let at = number(entry, gimli::DW_AT_data_member_location).unwrap_or(0);
                    let bits = |what| number(entry, what).map(|bits| format!(" {bits}")).unwrap_or_default();
                    let position = bits(gimli::DW_AT_bit_size)
                        + &bits(gimli::DW_AT_bit_offset)
                        + &bits(gimli::DW_AT_data_bit_offset);
                    lines.push(format!("{} {name} at {at}{position}", self.target(entry, depth + 1)?));
                }
                gimli::DW_TAG_enumerator => {
                    let value = number(entry, gimli::DW_AT_const_value);
                    lines.push(format!("{name} = {}", value.map_or_else(|| "?".to_owned(), |value| value.to_string())));
                }
                _ => {}
            }
        }
        Ok(lines)
    }

    /// The type that an entry refers to, in words; nothing is `void`.
    fn target(&self, entry: &Entry<'a>, depth: usize) -> Result<String> {
        let Some(AttributeValue::UnitRef(offset)) = entry.attr_value(gimli::DW_AT_type) else {
            return Ok("void".to_owned());
        };
        if depth > DEEPEST {
            return Ok("...".to_owned());
        }
        let entry = self.unit.entry(offset)?;
        let name = self.name(&entry)?;
        Ok(match (entry.tag(), name) {
            (gimli::DW_TAG_base_type | gimli::DW_TAG_typedef, name) => name.context("a type without name")?,
            (gimli::DW_TAG_pointer_type, _) => format!("{} *", self.target(&entry, depth + 1)?),
            (gimli::DW_TAG_const_type, _) => format!("const {}", self.target(&entry, depth + 1)?),
            (gimli::DW_TAG_volatile_type, _) => format!("volatile {}", self.target(&entry, depth + 1)?),
            (gimli::DW_TAG_restrict_type, _) => format!("{} restrict", self.target(&entry, depth + 1)?),
            (gimli::DW_TAG_subroutine_type, _) => {
                format!("{} ({})", self.target(&entry, depth + 1)?, self.parts(offset, depth)?)
            }
            (gimli::DW_TAG_array_type, _) => {
                format!("{} [{}]", self.target(&entry, depth + 1)?, self.parts(offset, depth)?)
            }
            (tag, name) => match (word_of(tag), name) {
                (Some(word), Some(name)) => format!("{word} {name}"),
                (Some(word), None) => format!("{word} {{{}}}", self.lines(offset, depth + 1)?.join(", ")),
                (None, name) => format!("{tag} {}", name.unwrap_or_default()),
            },
        })
    }

    /// Parameters of a function's type, or lengths of an array's.
    fn parts(&self, offset: UnitOffset, depth: usize) -> Result<String> {
        let mut tree = self.unit.entries_tree(Some(offset))?;
        let mut children = tree.root()?.children();
        let mut parts = Vec::new();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            match entry.tag() {
                gimli::DW_TAG_formal_parameter => parts.push(self.target(entry, depth + 1)?),
                gimli::DW_TAG_unspecified_parameters => parts.push("...".to_owned()),
                gimli::DW_TAG_subrange_type => {
                    // The highest index, or how many there are, as the compiler likes.
                    let (last, count) = (number(entry, gimli::DW_AT_upper_bound), number(entry, gimli::DW_AT_count));
                    let length = count.or(last.map(|last| last + 1));
                    parts.push(length.map(|length| length.to_string()).unwrap_or_default());
                }
                _ => {}
            }
        }
        Ok(parts.join(", "))
    }

    fn name(&self, entry: &Entry<'a>) -> Result<Option<String>> {
        let Some(value) = entry.attr_value(gimli::DW_AT_name) else { return Ok(None) };
        Ok(Some(self.dwarf.attr_string(self.unit, value)?.to_string_lossy().into_owned()))
    }
}

/// An attribute that is a number.
fn number(entry: &Entry<'_>, name: gimli::DwAt) -> Option<i128> {
    let value = entry.attr_value(name)?;
    value.sdata_value().map(i128::from).or_else(|| value.udata_value().map(i128::from))
}
