//! The types of expressions, as far as they are known before anything runs.
//! Must not find fault with what may be right: what is not known is `Any`.

use std::fmt;

use cel::common::ast::operators;
use crds::{ParamType, ParamValue};

/// Type of a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Type {
    /// Not known before it is evaluated.
    Any,
    /// Nothing.
    Null,
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A whole number that is not negative, such as `1u`.
    UInt,
    /// A number with a fraction.
    Double,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// Values in an order.
    List,
    /// Values by name.
    Map,
}

impl From<ParamType> for Type {
    fn from(param: ParamType) -> Self {
        match param {
            ParamType::String => Self::Text,
            ParamType::Integer => Self::Int,
            ParamType::Boolean => Self::Bool,
        }
    }
}

impl From<&ParamValue> for Type {
    fn from(value: &ParamValue) -> Self {
        match value {
            ParamValue::String(_) => Self::Text,
            ParamValue::Integer(_) => Self::Int,
            ParamValue::Boolean(_) => Self::Bool,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "a value",
            Self::Null => "null",
            Self::Bool => "true/false",
            Self::Int | Self::UInt => "a whole number",
            Self::Double => "a number with a fraction",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::List => "a list",
            Self::Map => "a map",
        })
    }
}

impl Type {
    fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::UInt | Self::Double)
    }

    /// The type of what is one of two.
    pub(crate) fn or(self, other: Self) -> Self {
        if self == other { self } else { Self::Any }
    }

    fn may_be(self, other: Self) -> bool {
        self == Self::Any || other == Self::Any || self == other
    }
}

/// What is wrong with the operands of an operator.
pub(super) struct Mismatch {
    pub(super) message: String,
    pub(super) remedy: String,
}

/// The type of an operator's result; none when the name is no operator's.
pub(super) fn operator(name: &str, args: &[Type]) -> Option<Result<Type, Mismatch>> {
    let sign = sign(name)?;
    Some(match args {
        [one] => unary(name, sign, *one),
        [left, right] => binary(name, sign, *left, *right),
        [condition, yes, no] => expect_bool(sign, *condition).map(|()| yes.or(*no)),
        _ => Ok(Type::Any),
    })
}

fn sign(name: &str) -> Option<&str> {
    Some(match name {
        operators::CONDITIONAL => "? :",
        operators::LOGICAL_NOT => "!",
        operators::NEGATE => "-",
        operators::IN => "in",
        operators::INDEX | operators::OPT_INDEX => "[]",
        _ => name.strip_prefix('_')?.strip_suffix('_')?,
    })
}

fn unary(name: &str, sign: &str, operand: Type) -> Result<Type, Mismatch> {
    match name {
        operators::LOGICAL_NOT => expect_bool(sign, operand).map(|()| Type::Bool),
        operators::NEGATE if operand.is_number() || operand == Type::Any => Ok(operand),
        operators::NEGATE => Err(mismatch(format!("`-` needs a number, not {operand}"), "")),
        _ => Ok(Type::Any),
    }
}

fn binary(name: &str, sign: &str, left: Type, right: Type) -> Result<Type, Mismatch> {
    match name {
        operators::LOGICAL_AND | operators::LOGICAL_OR => {
            expect_bool(sign, left)?;
            expect_bool(sign, right).map(|()| Type::Bool)
        }
        operators::EQUALS | operators::NOT_EQUALS => {
            let comparable = left.may_be(right)
                || left.is_number() && right.is_number()
                || left == Type::Null
                || right == Type::Null;
            comparable
                .then_some(Type::Bool)
                .ok_or_else(|| two(format!("{left} never equals {right}"), left, right))
        }
        operators::LESS
        | operators::LESS_EQUALS
        | operators::GREATER
        | operators::GREATER_EQUALS => {
            let comparable = left.may_be(right) || left.is_number() && right.is_number();
            let message = format!("`{sign}` can't compare {left} with {right}");
            comparable
                .then_some(Type::Bool)
                .ok_or_else(|| two(message, left, right))
        }
        operators::IN => match right {
            Type::List | Type::Map | Type::Any => Ok(Type::Bool),
            _ => Err(mismatch(
                format!("`in` needs a list or a map, not {right}"),
                "write for example `x in ['a', 'b']`",
            )),
        },
        operators::INDEX | operators::OPT_INDEX => match left {
            Type::List | Type::Map | Type::Any => Ok(Type::Any),
            _ => Err(mismatch(format!("{left} has no parts"), "")),
        },
        operators::ADD => {
            let joins = |t: Type| {
                t.is_number() || matches!(t, Type::Any | Type::Text | Type::List | Type::Bytes)
            };
            arithmetic("+", left, right, joins)
        }
        _ => arithmetic(sign, left, right, |t| t.is_number() || t == Type::Any),
    }
}

fn arithmetic(
    sign: &str,
    left: Type,
    right: Type,
    fits: impl Fn(Type) -> bool,
) -> Result<Type, Mismatch> {
    if fits(left) && fits(right) && left.may_be(right) {
        return Ok(if left == Type::Any { right } else { left });
    }
    let message = format!("`{sign}` can't be used with {left} and {right}");
    Err(two(message, left, right))
}

fn expect_bool(sign: &str, found: Type) -> Result<(), Mismatch> {
    if found.may_be(Type::Bool) {
        return Ok(());
    }
    Err(mismatch(
        format!("`{sign}` needs true/false, not {found}"),
        "compare it with something",
    ))
}

fn two(message: String, left: Type, right: Type) -> Mismatch {
    let text = left == Type::Text || right == Type::Text;
    let remedy = match text && (left.is_number() || right.is_number()) {
        true => "make it text with string(), or a number with int()",
        false if text && (left == Type::Bool || right == Type::Bool) => {
            "make it text with string()"
        }
        false => "",
    };
    mismatch(message, remedy)
}

fn mismatch(message: String, remedy: &str) -> Mismatch {
    Mismatch {
        message,
        remedy: remedy.to_owned(),
    }
}

/// A function or method that expressions may call.
pub(super) struct Function {
    pub(super) name: &'static str,
    /// Type before the dot; none for a function.
    pub(super) target: Option<Type>,
    /// Types of the arguments.
    pub(super) args: &'static [Type],
    pub(super) result: Type,
    /// True for those that are known in conditions only.
    pub(super) of_status: bool,
}

const fn function(name: &'static str, args: &'static [Type], result: Type) -> Function {
    Function {
        name,
        target: None,
        args,
        result,
        of_status: false,
    }
}

const fn method(name: &'static str, target: Type, args: &'static [Type], result: Type) -> Function {
    Function {
        name,
        target: Some(target),
        args,
        result,
        of_status: false,
    }
}

const fn status(name: &'static str) -> Function {
    Function {
        name,
        target: None,
        args: &[],
        result: Type::Bool,
        of_status: true,
    }
}

/// Everything that may be called, in the order of the alphabet.
pub(super) const FUNCTIONS: [Function; 19] = [
    status("always"),
    function("bool", &[Type::Any], Type::Bool),
    status("cancelled"),
    method("contains", Type::Text, &[Type::Text], Type::Bool),
    function("double", &[Type::Any], Type::Double),
    function("dyn", &[Type::Any], Type::Any),
    method("endsWith", Type::Text, &[Type::Text], Type::Bool),
    status("failure"),
    function("fromJson", &[Type::Text], Type::Any),
    function("int", &[Type::Any], Type::Int),
    method("matches", Type::Text, &[Type::Text], Type::Bool),
    function("size", &[Type::Any], Type::Int),
    method("size", Type::Any, &[], Type::Int),
    method("startsWith", Type::Text, &[Type::Text], Type::Bool),
    function("string", &[Type::Any], Type::Text),
    status("success"),
    function("toJson", &[Type::Any], Type::Text),
    function("type", &[Type::Any], Type::Any),
    function("uint", &[Type::Any], Type::UInt),
];

/// What is wrong with a call of a known function; else its result's type.
pub(super) fn call(
    name: &str,
    target: Option<Type>,
    args: &[Type],
) -> Option<Result<&'static Function, Mismatch>> {
    let mut named = FUNCTIONS.iter().filter(|known| known.name == name);
    let same_kind = |known: &&Function| known.target.is_some() == target.is_some();
    let found = named.clone().find(same_kind).or_else(|| named.next())?;
    let usage = usage(found);
    if found.target.is_some() != target.is_some() || found.args.len() != args.len() {
        let message = format!("`{name}` is called in another way");
        return Some(Err(mismatch(message, &format!("write {usage}"))));
    }
    let wanted = found.target.iter().chain(found.args);
    let given = target.iter().chain(args);
    for (wanted, given) in wanted.zip(given) {
        if !wanted.may_be(*given) {
            let message = format!("`{name}` needs {wanted}, not {given}");
            return Some(Err(mismatch(message, &format!("write {usage}"))));
        }
    }
    Some(Ok(found))
}

fn usage(function: &Function) -> String {
    let args = vec!["x"; function.args.len()].join(", ");
    match function.target {
        Some(_) => format!("text.{}({args})", function.name),
        None => format!("{}({args})", function.name),
    }
}
