// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Descriptors of the invalidation queue.
