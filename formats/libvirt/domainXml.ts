/**
 * The few facts of a libvirt domain that an image wants, out of its XML. No XML parser: the file may be hostile, and the three are
 * taken from where libvirt writes them, the first elements of <domain> (or of the <domstatus> around it). What does not look
 * like them is left out; the whole XML is kept as an attachment.
 */

export interface DomainFacts {
  readonly name: string | undefined;
  readonly uuid: string | undefined;
  /** As <os><type arch='...'>: "x86_64". */
  readonly architecture: string | undefined;
}

const UUID = /^[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$/;
const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

export function domainFacts(xml: string): DomainFacts {
  const start = xml.search(/<domain[\s>]/);
  if (start < 0) return { name: undefined, uuid: undefined, architecture: undefined };
  const uuid = elementText(xml, 'uuid', start);
  return {
    name: elementText(xml, 'name', start),
    uuid: uuid !== undefined && UUID.test(uuid) ? uuid.toLowerCase() : undefined,
    architecture: architectureOf(xml, start),
  };
}

/** The text of the first such element, which has neither attributes nor children. */
function elementText(xml: string, element: string, from: number): string | undefined {
  const open = `<${element}>`;
  const at = xml.indexOf(open, from);
  const end = at < 0 ? -1 : xml.indexOf('<', at + open.length);
  if (end < 0 || !xml.startsWith(`</${element}>`, end)) return undefined;
  return unescaped(xml.slice(at + open.length, end));
}

function architectureOf(xml: string, from: number): string | undefined {
  const at = xml.indexOf('<type ', from);
  const end = at < 0 ? -1 : xml.indexOf('>', at);
  if (end < 0 || end - at > 1024) return undefined;
  return /\sarch=["']([\w-]{1,32})["']/.exec(xml.slice(at, end))?.[1];
}

function unescaped(text: string): string {
  return text.trim().replace(/&(lt|gt|amp|quot|apos);/g, (_, name: string) => ENTITIES[name]!);
}
