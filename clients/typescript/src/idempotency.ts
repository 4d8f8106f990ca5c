/** Which calls may be repeated: the contract's idempotency levels, from the generated definitions. */
import { AdminServiceDefinition } from '../gen/threadbus/v1/admin_service.js';
import { AgentServiceDefinition } from '../gen/threadbus/v1/agent_service.js';
import { BusServiceDefinition } from '../gen/threadbus/v1/bus_service.js';
import { ThreadServiceDefinition } from '../gen/threadbus/v1/thread_service.js';

/** The part of a generated definition that is used here. */
interface Service {
  fullName: string;
  methods: Record<string, { name: string; options: { idempotencyLevel?: string } }>;
}

const SERVICES: Service[] = [AdminServiceDefinition, AgentServiceDefinition, BusServiceDefinition,
  ThreadServiceDefinition];
const IDEMPOTENT = new Set(SERVICES.flatMap(({ fullName, methods }) => Object.values(methods)
  .filter(({ options }) => options.idempotencyLevel)
  .map(({ name }) => `/${fullName}/${name}`)));

/** Whether a call may be repeated: its method has a level, or the request a requestId. */
export function isRepeatable(path: string, request: unknown): boolean {
  return IDEMPOTENT.has(path) || Boolean((request as { requestId?: string }).requestId);
}
