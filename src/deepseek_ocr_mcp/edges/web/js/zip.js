// A zip of some files, stored without compression: texts are small, and pictures and PDFs are compressed already.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n >>> 0;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** The fields of a header, little-endian: `[size in bytes, value]` each. */
function header(...fields) {
  const bytes = new Uint8Array(fields.reduce((sum, [size]) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return bytes;
}

const UTF8 = 0x0800; // flag: names are UTF-8

/** `files`: pairs of a name and a blob. Names that are there already get a number. */
export async function zip(files) {
  const now = new Date();
  const time = (now.getHours() << 11) | (now.getMinutes() << 5) | (now.getSeconds() >> 1);
  const date = ((now.getFullYear() - 1980) << 9) | ((now.getMonth() + 1) << 5) | now.getDate();
  const parts = [];
  const directory = [];
  let at = 0;
  for (const [wanted, blob] of unique(files)) {
    const data = new Uint8Array(await blob.arrayBuffer());
    const name = new TextEncoder().encode(wanted);
    const facts = [[2, 20], [2, UTF8], [2, 0], [2, time], [2, date], [4, crc32(data)], [4, data.length], [4, data.length], [2, name.length], [2, 0]];
    const local = header([4, 0x04034b50], ...facts);
    directory.push(header([4, 0x02014b50], [2, 20], ...facts, [2, 0], [2, 0], [2, 0], [4, 0], [4, at]), name);
    parts.push(local, name, data);
    at += local.length + name.length + data.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const count = directory.length / 2;
  const end = header([4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, size], [4, at], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

function* unique(files) {
  const taken = new Set();
  for (const [name, blob] of files) {
    let free = name;
    for (let n = 2; taken.has(free.toLowerCase()); n++) free = name.replace(/(\.[^./]*)?$/, ` ${n}$1`);
    taken.add(free.toLowerCase());
    yield [free, blob];
  }
}
