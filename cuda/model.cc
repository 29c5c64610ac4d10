// A model's life on a device: planned, loaded in steps, destroyed.
#include "model.h"

#include "loader.h"

namespace pith::cuda {
namespace {

constexpr size_t kItemsPerLayer = 2 + 7 * 3;  // norms; linears, their biases and perms

// What is held, added to the account or taken off it again (sign -1).
void count_weights(Model& m, uint64_t sign) {
    if (!m.host.account) return;
    m.host.account->add(Used::DeviceWeights, sign * m.weight_bytes);
    m.host.account->add(Used::HostWeights, sign * m.row_bytes);
}
void count_staging(Model& m, uint64_t sign) {
    if (!m.host.account) return;
    m.host.account->add(Used::DeviceStaging, sign * m.loader->scratch_bytes());
    m.host.account->add(Used::HostStaging, sign * 2 * m.loader->staging_bytes);
}

pith_status open_loader(Model& m, pith_error* error) {
    Loader& l = *m.loader;
    const Driver& driver = m.device.driver();
    plan_buffers(m, &l);
    PITH_TRY(check(driver, driver.StreamCreateWithPriority(&m.stream, CU_STREAM_NON_BLOCKING, 0), "making a stream", error));
    PITH_TRY(l.meter.open(driver, m.stream, m.host.account, error));
    PITH_TRY(make_event(driver, PITH_WAIT_BLOCK, &l.done, error));
    for (int i = 0; i < 2; i++) {
        CUdeviceptr unused = 0;
        PITH_TRY(make_event(driver, PITH_WAIT_BLOCK, &l.copied[i], error));
        PITH_TRY(m.device.allocate_host(l.staging_bytes, "staging for the weights", &l.staging[i], &unused, error));
    }
    PITH_TRY(m.device.find_kernel("repack_codes", &l.codes, error));
    PITH_TRY(m.device.find_kernel("repack_scales", &l.scales, error));
    PITH_TRY(m.device.find_kernel("repack_dense", &l.dense, error));
    PITH_TRY(m.device.find_kernel("repack_floats", &l.floats, error));
    return m.device.allocate(l.scratch_bytes(), "scratch for the weights", &l.scratch, error);
}

void close_loader(Model& m) {
    const Driver& driver = m.device.driver();
    if (m.stream) driver.StreamSynchronize(m.stream);
    if (m.loader) {
        Loader& l = *m.loader;
        l.meter.close();
        if (l.counted) count_staging(m, ~uint64_t{0});
        for (int i = 0; i < 2; i++) {
            if (l.copied[i]) driver.EventDestroy(l.copied[i]);
            m.device.free_host(l.staging[i]);
        }
        if (l.done) driver.EventDestroy(l.done);
        m.device.free(l.scratch);
        destroy(*m.host.allocator, m.loader);
        m.loader = nullptr;
    }
    if (m.stream) driver.StreamDestroy(m.stream);
    m.stream = nullptr;
}

// With the context current.
void free_memory(Model& m) {
    close_loader(m);
    if (m.counted) count_weights(m, ~uint64_t{0});
    m.counted = false;
    m.device.free(m.weights);
    m.device.free_host(m.embedding_host);
    m.weights = m.embedding_device = 0;
    m.embedding_host = nullptr;
}

pith_status allocate(Model& m, pith_error* error) {
    m.loader = create<Loader>(*m.host.allocator);
    if (!m.loader) return fail_memory(error, "the loader", sizeof(Loader));
    // The weights first: what is short of memory shall say so by their size.
    PITH_TRY(m.device.allocate(m.weight_bytes, "the weights", &m.weights, error));
    PITH_TRY(m.device.allocate_host(m.row_bytes, "the embedding", &m.embedding_host, &m.embedding_device, error));
    PITH_TRY(open_loader(m, error));
    const Driver& driver = m.device.driver();
    PITH_TRY(check(driver, driver.MemsetD8Async(m.weights, 0, static_cast<size_t>(m.weight_bytes), m.stream),
                   "clearing the weights' memory", error));
    count_weights(m, 1);
    count_staging(m, 1);
    m.counted = m.loader->counted = true;
    plan_model(m);
    return PITH_OK;
}

// All or nothing, so that a load that failed for want of memory holds none, and can be tried again.
pith_status begin(Model& m, pith_error* error) {
    PITH_TRY(m.device.open(m.host.cuda, error));
    pith_status status = PITH_OK;
    {
        const ContextScope scope(m.device.driver(), m.device.context(), error);
        PITH_TRY(scope.status());
        status = allocate(m, error);
        if (status < 0) free_memory(m);
    }
    if (status < 0) m.device.close();
    return status;
}

pith_status advance(Model& m, uint64_t budget, pith_error* error) {
    uint64_t spent = 0;
    while (m.item < m.item_count && (budget == 0 || spent < budget)) {
        uint64_t moved = 0;
        PITH_TRY(move_some(m, budget ? budget - spent : UINT64_MAX, &moved, error));
        spent += moved;
        m.moved += moved;
        m.left -= moved;
        if (m.moved == source_bytes(m.items[m.item])) {
            m.item++;
            m.moved = 0;
        }
    }
    return PITH_OK;
}

pith_status finish_step(Model& m, pith_error* error) {
    const Driver& driver = m.device.driver();
    PITH_TRY(check(driver, driver.EventRecord(m.loader->done, m.stream), "loading weights", error));
    PITH_TRY(wait_for(driver, m.loader->done, PITH_WAIT_BLOCK, "loading weights", error));
    m.loader->meter.settle();
    return PITH_OK;
}

pith_status load_some(Model& m, uint64_t budget, pith_error* error) {
    const ContextScope scope(m.device.driver(), m.device.context(), error);
    PITH_TRY(scope.status());
    PITH_TRY(advance(m, budget, error));
    PITH_TRY(finish_step(m, error));
    if (m.item < m.item_count) return PITH_OK;
    close_loader(m);
    m.ready = true;
    return PITH_OK;
}

}  // namespace

pith_status model_create(const BackendHost* host, const ModelFile* file, void** model, BackendBytes* bytes, pith_error* error) {
    Model* m = create<Model>(*host->allocator, *host, file);
    if (!m) return fail_memory(error, "the model", sizeof(Model));
    const size_t layers = file->config.layers, most_items = layers * kItemsPerLayer + 6;
    m->layers = m->arena.make<Layer>(layers);
    m->items = m->arena.make<Item>(most_items);
    pith_status status = PITH_OK;
    if (!m->layers || !m->items) {
        status = fail_memory(error, "the model's tables", most_items * sizeof(Item));
    } else {
        plan_model(*m);
        const DeviceFacts& facts = m->device.facts();
        if (m->weight_bytes > facts.memory)
            status = fail(error, PITH_E_MEMORY, "the weights need %llu MiB of device memory, %s has %llu",
                          static_cast<unsigned long long>(m->weight_bytes >> 20), facts.name,
                          static_cast<unsigned long long>(facts.memory >> 20));
    }
    if (status < 0) {
        destroy(*host->allocator, m);
        return status;
    }
    for (size_t i = 0; i < m->item_count; i++) m->left += source_bytes(m->items[i]);
    bytes->host = m->row_bytes;
    bytes->device = m->weight_bytes;
    *model = m;
    return PITH_OK;
}

pith_status model_load(void* model, uint64_t budget, uint64_t* left, pith_error* error) {
    Model& m = *static_cast<Model*>(model);
    if (m.lost) return fail(error, PITH_E_DEVICE, "the GPU failed before: the model is lost");
    if (!m.ready) {
        pith_status status = m.loader ? PITH_OK : begin(m, error);
        if (status == PITH_OK) status = load_some(m, budget, error);
        m.lost = status == PITH_E_DEVICE;
        PITH_TRY(status);
    }
    *left = m.left;
    return PITH_OK;
}

void model_destroy(void* model) {
    Model* m = static_cast<Model*>(model);
    if (!m) return;
    if (m->device.is_open()) {
        const ContextScope scope(m->device.driver(), m->device.context(), nullptr);
        free_memory(*m);
    }
    destroy(*m->host.allocator, m);
}

}  // namespace pith::cuda
