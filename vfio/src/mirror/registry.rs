// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host tables, and which of them hold what.

use super::State;
use super::content::Content;
use super::table::HostTable;
use crate::backend::TableId;

impl State {
    /// The tables that hold `content`.
    pub fn tables_of(&self, content: Content) -> Vec<TableId> {
        let ids = self.contents.get(&content);
        ids.map_or_else(Vec::new, |ids| ids.iter().copied().collect())
    }

    pub fn add_table(&mut self, mut table: HostTable) {
        self.host.begin_counting(table.id);
        let left = match table.content {
            Content::Nested(_) => None,
            _ => self.host.entries_left(table.id),
        };
        table.entry_limit = left.map(|left| left + table.ledger.len() as u64);
        self.contents
            .entry(table.content)
            .or_default()
            .insert(table.id);
        self.tables.insert(table.id, table);
    }

    /// `id` shall hold something else.
    pub fn rename(&mut self, id: TableId, content: Content) {
        if let Some(table) = self.tables.get_mut(&id) {
            let before = std::mem::replace(&mut table.content, content);
            table.generation += 1;
            self.unlist(before, id);
            self.contents.entry(content).or_default().insert(id);
        }
    }

    pub fn remove_table(&mut self, id: TableId) {
        if let Some(table) = self.tables.remove(&id) {
            self.unlist(table.content, id);
            self.host.forget_table(id);
        }
    }

    fn unlist(&mut self, content: Content, id: TableId) {
        if let Some(ids) = self.contents.get_mut(&content) {
            ids.remove(&id);
            if ids.is_empty() {
                self.contents.remove(&content);
            }
        }
    }
}
