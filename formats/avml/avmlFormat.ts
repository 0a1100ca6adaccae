/** What messages call it. */
export const AVML_FORMAT = 'AVML';
