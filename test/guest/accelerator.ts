import { closeSync, openSync, readFileSync } from 'node:fs';

/** What runs the guest's instructions: the processor (KVM) or QEMU's translator (TCG), which is slower and works everywhere. */
export type Accelerator = 'kvm' | 'tcg';

/**
 * The accelerators to try, in this order. VMSNAP_GUEST_ACCELERATOR=kvm or =tcg names one alone.
 */
export function acceleratorsToTry(): Accelerator[] {
  const wanted = process.env.VMSNAP_GUEST_ACCELERATOR ?? '';
  if (wanted === 'kvm' || wanted === 'tcg') return [wanted];
  if (wanted !== '') throw new Error(`VMSNAP_GUEST_ACCELERATOR is kvm or tcg, and not ${wanted}`);
  return kvmIsPromising() ? ['kvm', 'tcg'] : ['tcg'];
}

/**
 * A /dev/kvm that opens is not enough: where it is emulated without the processor's help (seen with the module kvm_pvm)
 * an ordinary kernel hangs in it without a word, so the processor must name the feature too.
 */
function kvmIsPromising(): boolean {
  try {
    closeSync(openSync('/dev/kvm', 'r+'));
    return /^flags\s*:.*\b(vmx|svm)\b/m.test(readFileSync('/proc/cpuinfo', 'latin1'));
  } catch {
    return false;
  }
}
