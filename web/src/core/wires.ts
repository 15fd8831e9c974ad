/** Which output may be plugged into which input. */

export const ANY = "*";

/** As the server decides it: types are unions where they have commas, and a whole number is a number as well. */
export function fits(wire: string, socket: string): boolean {
  if (wire === socket || wire === ANY || socket === ANY || (wire === "INT" && socket === "FLOAT")) return true;
  return (wire.includes(",") || socket.includes(",")) && meet(parts(wire), parts(socket));
}

/** As editors of ComfyUI's format see it, which is what bypassing goes by. */
export function alike(wire: string, socket: string): boolean {
  const open = ["", ANY];
  return open.includes(wire) || open.includes(socket) || meet(parts(wire.toLowerCase()), parts(socket.toLowerCase()));
}

const parts = (wire: string): string[] => wire.split(",").map((part) => part.trim());
const meet = (a: string[], b: string[]): boolean => a.some((part) => b.includes(part));
