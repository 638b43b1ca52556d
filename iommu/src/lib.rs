// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The VT-d unit.
#![forbid(unsafe_code)]
