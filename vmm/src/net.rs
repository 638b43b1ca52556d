// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host's network.

pub mod tap;
