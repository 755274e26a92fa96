//! Parameters of a run: types, defaults, allowed values.
//! Must not evaluate expressions.

use crds::{NamedValue, Param, ParamValue};

use crate::validate::Problem;

/// The values of all declared parameters: the run's, else the defaults. Field paths of problems
/// begin with `spec.params`.
pub fn resolve(
    declared: &[Param],
    given: &[NamedValue<ParamValue>],
) -> Result<Vec<NamedValue<ParamValue>>, Vec<Problem>> {
    let _ = (declared, given);
    todo!()
}
