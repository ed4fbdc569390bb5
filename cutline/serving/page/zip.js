// Writes a zip of small texts, stored without compression. Exports: makeZip, crc32.
// Layout: APPNOTE.TXT of PKWARE, sections 4.3.7, 4.3.12 and 4.3.16.

const UTF8_NAMES = 0x0800;
const VERSION = 20;
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** Return the CRC-32 of bytes. */
export function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** Return a zip of files, given pairs of a name and a text. */
export function makeZip(files, date = new Date()) {
  const encoder = new TextEncoder();
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [name, text] of files) {
    const [nameBytes, data] = [encoder.encode(name), encoder.encode(text)];
    const common = describeFile(nameBytes, data, date);
    const local = pack([0x04034b50, 4], ...common);
    parts.push(local, nameBytes, data);
    const rest = [[0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]];
    directory.push(pack([0x02014b50, 4], [VERSION, 2], ...common, ...rest), nameBytes);
    offset += local.length + nameBytes.length + data.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const count = files.length;
  const end = pack(
    [0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [size, 4], [offset, 4], [0, 2],
  );
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** Return the fields that a file's two headers have in common. */
function describeFile(name, data, date) {
  const time = (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1);
  const day = ((date.getFullYear() - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate();
  const sizes = [[data.length, 4], [data.length, 4]];
  return [
    [VERSION, 2], [UTF8_NAMES, 2], [0, 2], [time, 2], [day, 2],
    [crc32(data), 4], ...sizes, [name.length, 2], [0, 2],
  ];
}

/** Return numbers as little-endian bytes, given pairs of a number and its length. */
function pack(...fields) {
  const bytes = new Uint8Array(fields.reduce((sum, [, length]) => sum + length, 0));
  const view = new DataView(bytes.buffer);
  let position = 0;
  for (const [value, length] of fields) {
    if (length === 2) view.setUint16(position, value, true);
    else view.setUint32(position, value, true);
    position += length;
  }
  return bytes;
}
