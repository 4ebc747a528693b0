// The bytes of a record as a text in which nothing can hide: what is not UTF-8 is escaped byte by byte, and so are characters
// that print nothing or change the order of what stands around them.

// Controls but tab and newline, zero-width and bidirectional ones, separators, tags, and halves of pairs.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}\p{Cs}]/gu;

function byte(code) {
  return `\\x${code.toString(16).padStart(2, "0")}`;
}

function escaped(text) {
  return text.replace(HIDDEN, (character) => {
    const code = character.codePointAt(0);
    return code < 0x80 ? byte(code) : `\\u{${code.toString(16)}}`;
  });
}

/** Bytes of which not all are UTF-8: printable ASCII as it is, every other byte as `\xNN`. */
function rawBytes(base64) {
  return Array.from(atob(base64), (character) => {
    const code = character.charCodeAt(0);
    return (code >= 0x20 && code < 0x7f) || code === 0x0a || code === 0x09 ? character : byte(code);
  }).join("");
}

/** The API's `{encoding, data}` as a text, and whether anything in it was escaped. */
export function shown(bytes) {
  if (!bytes) return { text: "", isEscaped: false };
  const text = bytes.encoding === "base64" ? rawBytes(bytes.data) : escaped(bytes.data);
  return { text, isEscaped: text !== bytes.data };
}
