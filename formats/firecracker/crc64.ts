/**
 * CRC-64/Redis: polynomial 0xad93d23594c935a9 (Jones), bits reflected, initial value 0, nothing added at the end; that of "123456789" is
 * 0xe9c6d914c4b8d9ca. In halves of 32 bits, because BigInt would be many times slower.
 */
const POLYNOMIAL_HIGH = 0x95ac9329;
const POLYNOMIAL_LOW = 0xac4bc9b5;

const TABLE_HIGH = new Uint32Array(256);
const TABLE_LOW = new Uint32Array(256);
for (let byte = 0; byte < 256; byte++) {
  let high = 0;
  let low = byte;
  for (let bit = 0; bit < 8; bit++) {
    const carry = low & 1;
    low = ((low >>> 1) | (high << 31)) >>> 0;
    high >>>= 1;
    if (carry === 0) continue;
    high = (high ^ POLYNOMIAL_HIGH) >>> 0;
    low = (low ^ POLYNOMIAL_LOW) >>> 0;
  }
  TABLE_HIGH[byte] = high;
  TABLE_LOW[byte] = low;
}

/** Bytes followed by their CRC in little endian have the CRC 0. */
export function crc64(bytes: Uint8Array): bigint {
  let high = 0;
  let low = 0;
  for (const byte of bytes) {
    const index = (low ^ byte) & 0xff;
    low = (((low >>> 8) | (high << 24)) ^ TABLE_LOW[index]!) >>> 0;
    high = ((high >>> 8) ^ TABLE_HIGH[index]!) >>> 0;
  }
  return (BigInt(high) << 32n) | BigInt(low);
}
