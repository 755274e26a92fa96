//! How large the values of an expression may become, whatever it reads.
//! Must not evaluate anything.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators,
};

use super::check::{is_test, path};
use super::json::MAX_ENTRIES;
use super::types::{FUNCTIONS, Type};

/// Most bytes that any value on the way may need. One that reads a list and puts a long text
/// before each entry stays below; one that grows by factors does not.
const MOST: u64 = 64 << 20;
/// Bytes of one value that is read: what a job's outputs may have together.
const READ: u64 = 32 << 10;
/// Bytes of a whole group of values, such as `jobs`: what an object of Kubernetes holds.
const READ_ALL: u64 = 1 << 20;
/// Bytes of a number, of true and false, and of an entry in a list beside its value.
const PLAIN: u64 = 16;
/// What quotes and escapes make of one byte in JSON.
const JSON: u64 = 6;

/// A bound for a value: in a loop it depends on how large the variable of the loop is.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    /// Bytes that it has in any case.
    fixed: u64,
    /// How many times it holds the loop's variable.
    times: u64,
    /// Entries, if it is a list or a map.
    entries: u64,
}

impl Size {
    fn of(fixed: u64, entries: u64) -> Self {
        let times = 0;
        Self {
            fixed,
            times,
            entries,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            fixed: self.fixed.saturating_add(other.fixed),
            times: self.times.saturating_add(other.times),
            entries: self.entries.saturating_add(other.entries),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            fixed: self.fixed.max(other.fixed),
            times: self.times.max(other.times),
            entries: self.entries.max(other.entries),
        }
    }

    fn by(self, factor: u64) -> Self {
        Self {
            fixed: self.fixed.saturating_mul(factor),
            times: self.times.saturating_mul(factor),
            entries: 0,
        }
    }
}

/// The place of the first value that may become too large.
pub(super) fn too_large(root: &IdedExpr) -> Option<u64> {
    let mut bound = Bound::default();
    bound.size(root);
    bound.found
}

#[derive(Default)]
struct Bound<'a> {
    /// The loop around the present place.
    inside: Option<Inside<'a>>,
    found: Option<u64>,
}

#[derive(Clone, Copy)]
struct Inside<'a> {
    around: &'a ComprehensionExpr,
    /// Bytes of all that it goes through, so of each entry at most.
    range: u64,
}

impl<'a> Bound<'a> {
    /// The bound of a part; notes a part that is beyond it.
    fn size(&mut self, expr: &'a IdedExpr) -> Size {
        let size = self.of(expr);
        let range = self.inside.map_or(0, |inside| inside.range);
        let total = size.fixed.saturating_add(size.times.saturating_mul(range));
        if total > MOST {
            self.found.get_or_insert(expr.id);
        }
        size
    }

    fn of(&mut self, expr: &'a IdedExpr) -> Size {
        if is_test(&expr.expr) {
            return Size::of(PLAIN, 0);
        }
        if let Some(path) = path(expr) {
            return self.read(path.root, path.fields.len());
        }
        match &expr.expr {
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(around) => self.around(around),
            Expr::List(list) => {
                let entries = list.elements.iter();
                self.sum(entries, list.elements.len() as u64)
            }
            Expr::Map(map) => {
                let parts = map.entries.iter().flat_map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
                    EntryExpr::StructField(field) => vec![&field.value],
                });
                self.sum(parts, map.entries.len() as u64)
            }
            Expr::Select(select) => self.size(&select.operand),
            Expr::Literal(LiteralValue::String(text)) => Size::of(text.inner().len() as u64, 0),
            Expr::Literal(LiteralValue::Bytes(bytes)) => Size::of(bytes.inner().len() as u64, 0),
            Expr::Literal(_) | Expr::Ident(_) | Expr::Struct(_) | Expr::Unspecified => {
                Size::of(PLAIN, 0)
            }
        }
    }

    fn read(&self, root: &str, fields: usize) -> Size {
        if let Some(Inside { around, .. }) = self.inside {
            if root == around.accu_var {
                // What the rounds before have made is counted by the rounds.
                return Size::default();
            }
            if root == around.iter_var || around.iter_var2.as_deref() == Some(root) {
                return Size {
                    fixed: 0,
                    times: 1,
                    entries: MAX_ENTRIES as u64,
                };
            }
        }
        // `jobs.NAME.outputs.OUTPUT` is one value, `jobs.NAME.matrix` is many.
        let of_one = if root == "jobs" { 3 } else { 1 };
        let bytes = if fields < of_one { READ_ALL } else { READ };
        Size::of(bytes, MAX_ENTRIES as u64)
    }

    /// A list or map of these parts.
    fn sum(&mut self, parts: impl Iterator<Item = &'a IdedExpr>, entries: u64) -> Size {
        let beside = Size::of(entries.saturating_mul(2 * PLAIN), 0);
        let whole = parts.fold(beside, |sum, part| sum.plus(self.size(part)));
        Size { entries, ..whole }
    }

    fn around(&mut self, around: &'a ComprehensionExpr) -> Size {
        let range = self.size(&around.iter_range);
        let outer = self.inside;
        let outer_range = outer.map_or(0, |inside| inside.range);
        let total = range.times.saturating_mul(outer_range);
        let range = Size::of(range.fixed.saturating_add(total), range.entries);
        self.inside = Some(Inside {
            around,
            range: range.fixed,
        });
        let step = self.size(&around.loop_step);
        self.size(&around.loop_cond);
        self.inside = outer;
        // All entries together are not larger than what is gone through.
        let of_entries = step.times.saturating_mul(range.fixed);
        let beside = step.fixed.saturating_mul(range.entries);
        Size::of(of_entries.saturating_add(beside), range.entries)
    }

    fn call(&mut self, call: &'a CallExpr) -> Size {
        let parts = call.target.iter().map(|target| &**target).chain(&call.args);
        let sizes: Vec<Size> = parts.map(|part| self.size(part)).collect();
        let sum = || {
            sizes
                .iter()
                .fold(Size::default(), |sum, size| sum.plus(*size))
        };
        let name = call.func_name.as_str();
        match name {
            operators::ADD => sum(),
            operators::CONDITIONAL => sizes[1..]
                .iter()
                .fold(Size::default(), |largest, size| largest.or(*size)),
            operators::INDEX | operators::OPT_INDEX => sizes[0],
            "toJson" => sum().by(JSON).plus(Size::of(PLAIN, 0)),
            _ if is_plain(name) => Size::of(PLAIN, 0),
            _ => {
                let entries = MAX_ENTRIES as u64;
                Size { entries, ..sum() }
            }
        }
    }
}

/// Its result is a number, true or false.
fn is_plain(name: &str) -> bool {
    let mut known = FUNCTIONS
        .iter()
        .filter(|known| known.name == name)
        .peekable();
    match known.peek() {
        Some(_) => known.all(|it| {
            matches!(
                it.result,
                Type::Bool | Type::Int | Type::UInt | Type::Double
            )
        }),
        // The operators that are left compare or count.
        None => name.starts_with(['_', '!', '-', '@']),
    }
}
