/** The attribute `cmd_status` of a device: why the last command failed, as the idxd driver and the hardware number it. */

const SOFTWARE_ERRORS: Readonly<Record<string, string>> = {
  '0x80000010': 'the device was enabled already',
  '0x80000020': 'the device is not enabled',
  '0x80000021': 'the queue was enabled already',
  '0x80020000': 'the device could not be registered with the DMA engine',
  '0x80030000': 'the queue is in no group',
  '0x80040000': 'the queue has no name',
  '0x80050000': 'a shared queue needs PASID, which is off',
  '0x80060000': 'a shared queue needs a threshold',
  '0x80070000': 'the portal of the queue could not be mapped',
  '0x80080000': 'memory for the queue could not be had',
  '0x80090000': 'a reference counter could not be had',
  '0x800a0000': 'a DMA channel could not be registered',
  '0x800b0000': 'the character device could not be made',
  '0x800c0000': 'the device offers no shared queues',
  '0x800d0000': 'no queue is configured',
  '0x800e0000': 'the queue has no size',
  '0x800f0000': 'the queue may not take privileged descriptors',
  '0x80100000': 'the interrupt of the queue could not be set up',
  '0x80110000': 'queues of type user need the IOMMU with PASID, which is off',
  '0x80120000': 'the event log could not be set up',
  '0x80200000': 'the queue has no driver name',
};

/** What is missing from a queue's own set-up. */
const INCOMPLETE_QUEUE = ['0x80030000', '0x80040000', '0x80060000', '0x800e0000', '0x80200000'];

/** Whether setting the queue up anew mends it. */
export function meansIncompleteQueue(value: string): boolean {
  return INCOMPLETE_QUEUE.includes(value);
}

const SOFTWARE_FLAG = 0x80000000n;

/** `value` is hexadecimal with 0x; undefined for 0, which is no error. */
export function commandStatusMeaning(value: string): string | undefined {
  const status = BigInt(value);
  if (status === 0n) return undefined;
  const known = SOFTWARE_ERRORS[`0x${status.toString(16)}`];
  if (known !== undefined) return known;
  if ((status & SOFTWARE_FLAG) !== 0n) return 'an error of the driver that this vmsnap does not know';
  return `the hardware refused a command (error 0x${(status & 0xffn).toString(16)})`;
}
