/* localStorage, and memory for what it does not take: it may be full, switched off or null. Never throws. */

const memory = {};
const disk = (work) => {
  try {
    return work(localStorage);
  } catch {}
};

export const keys = () => [...Object.keys(memory), ...(disk(Object.keys) ?? [])];
export const read = (key) => memory[key] ?? disk((store) => store[key]);
export function drop(key) {
  delete memory[key];
  disk((store) => delete store[key]);
}
/* Where storage refuses, it keeps what it had: clicks in there are sent again rather than lost. */
export function write(key, text) {
  delete memory[key];
  disk((store) => (store[key] = text)) ?? (memory[key] = text);
}
