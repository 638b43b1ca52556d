// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"use strict";
// Looks an address up in what the page says of a host table. Addresses have 64 bits, so they are BigInt.
function find(list, iova) {
  return list.find(([first, last]) => BigInt(first) <= iova && iova <= BigInt(last));
}
function why(data, iova) {
  const name = "0x" + iova.toString(16);
  const difference = find(data.differences, iova);
  const held = find(data.host, iova);
  if (data.blocked) return name + " is not mapped: nothing goes through this table: " + data.blocked;
  if (difference) return name + ": " + difference[2] + ".";
  if (held) {
    const gpa = BigInt(held[2]) + iova - BigInt(held[0]);
    return name + " is mapped: it reaches 0x" + gpa.toString(16) + " (" + held[3].replace("_", " and ") + ").";
  }
  const hole = find(data.holes, iova);
  if (hole) return name + " is not mapped: " + hole[2] + ".";
  return name + " is in none of the lists of this page, which end early; ask remora ctl for this address.";
}
document.getElementById("query").addEventListener("submit", (event) => {
  event.preventDefault();
  const answer = document.getElementById("answer");
  const form = event.target;
  const data = document.querySelector('script.data[data-table="' + form.table.value + '"]');
  try {
    const iova = BigInt(form.iova.value.trim());
    if (iova < 0n || iova >> 64n) throw new RangeError("more than 64 bits");
    answer.textContent = data ? why(JSON.parse(data.textContent), iova) : "There is no host table.";
  } catch (error) {
    answer.textContent = "An address like 0x1000 is needed (" + error.message + ").";
  }
});
