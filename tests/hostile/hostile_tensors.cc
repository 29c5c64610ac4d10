// Tensors that don't go with the config: missing, misshapen, of other formats, and GPTQ's parts.
#include "hostile.h"

using namespace hostile;

namespace {

const std::string kLayer = "model.layers.0.", kQ = kLayer + "self_attn.q_proj", kDown = kLayer + "mlp.down_proj";

template <class T>
Bytes bytes_of(const std::vector<T>& values) {
    return Bytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

// 4-bit q_proj (32 from 32: one group of 32) and down_proj (32 from 64: two).
template <class Damage>
Folder gptq(Damage damage, const std::string& more = "") {
    Tensors all = fuzz::tiny_tensors();
    for (const auto& [name, cols] : {std::pair<std::string, uint64_t>{kQ, 32}, {kDown, 64}}) {
        all.erase(name + ".weight");
        all[name + ".qweight"] = {"I32", {cols / 8, 32}, fuzz::filled(cols * 16, 0x9A)};
        all[name + ".qzeros"] = {"I32", {cols / 32, 4}, fuzz::filled(cols / 2, 0x77)};
        all[name + ".scales"] = {"F16", {cols / 32, 32}, fuzz::filled(cols * 2)};
    }
    damage(all);
    Folder folder = model_of(all);
    folder["quantize_config.json"] = "{\"bits\":4,\"group_size\":32" + more + "}";
    return folder;
}

Folder part(const std::string& name, const char* dtype, std::vector<uint64_t> shape, size_t bytes) {
    return gptq([&](Tensors& t) { t[name] = {dtype, std::move(shape), fuzz::filled(bytes, 0x77)}; });
}

// down_proj with a g_idx: column k is of group (*)(k).
template <class Group>
Folder g_idx(Group group, size_t count = 64) {
    std::vector<int32_t> groups;
    for (size_t k = 0; k < count; k++) groups.push_back(group(static_cast<int32_t>(k)));
    return gptq([&](Tensors& t) { t[kDown + ".g_idx"] = {"I32", {count}, bytes_of(groups)}; });
}

Folder without(const std::string& name) {
    return tensors([&](Tensors& t) { t.erase(name); });
}

Folder with(const std::string& name, const char* dtype, std::vector<uint64_t> shape, size_t bytes) {
    return tensors([&](Tensors& t) { t[name] = {dtype, std::move(shape), fuzz::filled(bytes)}; });
}

}  // namespace

TEST_CASE("tensors: missing, misshapen, of another format") {
    Cases cases;
    for (const auto& [name, tensor] : fuzz::tiny_tensors()) {
        cases.push_back({name + " is missing", kFormat, "tensor " + name + " is missing", without(name)});
        cases.push_back({name + " has a row too many", kFormat, "tensor " + name + ": expected shape [", tensors([&](Tensors& t) {
                             Tensor& changed = t[name];
                             changed.data += fuzz::filled(changed.data.size() / changed.shape[0]);
                             changed.shape[0]++;
                         })});
        if (tensor.shape.size() == 2 && tensor.shape[0] != tensor.shape[1])
            cases.push_back({name + " is transposed", kFormat, "tensor " + name + ": expected shape [",
                             tensors([&](Tensors& t) { std::swap(t[name].shape[0], t[name].shape[1]); })});
        cases.push_back({name + " is of integers", kUnsupported, "tensor " + name + ": dtype U16, expected F16",
                         tensors([&](Tensors& t) { t[name].dtype = "U16"; })});
    }
    for (const char* suffix : {"q_weight", "trellis", "weight_packed", "B", "weight_scale", "weight_scale_inv", "SCB", "weight.absmax",
                               "weight.quant_state.bitsandbytes__nf4", "codebooks", "W_q"})
        cases.push_back({std::string("a tensor of another format: ") + suffix, kUnsupported,
                         "tensor " + kQ + "." + suffix + ": the mark of", with(kQ + "." + suffix, "U8", {4}, 4)});
    cases.push_back({"another format's tensor alone", kUnsupported, "tensor " + kQ + ".weight_packed: the mark of compressed-tensors",
                     tensors([](Tensors& t) {
                         t.erase(kQ + ".weight");
                         t[kQ + ".weight_packed"] = {"I32", {4}, fuzz::filled(16)};
                     })});
    cases.push_back({"a bias that is not zero", kFormat, "tensor " + kQ + ".bias is not zero", with(kQ + ".bias", "F16", {32}, 64)});
    cases.push_back(
        {"a bias of another length", kFormat, "tensor " + kQ + ".bias: expected shape [32]", with(kQ + ".bias", "F16", {16}, 32)});
    cases.push_back({"a bias of integers", kUnsupported, "tensor " + kQ + ".bias: dtype I8", with(kQ + ".bias", "I8", {32}, 32)});
    cases.push_back({"a head of another size", kFormat, "tensor lm_head.weight: expected shape [40, 32]",
                     with("lm_head.weight", "F16", {39, 32}, 2496)});
    cases.push_back({"a head of another format", kFormat, "tensor lm_head.weight is missing", with("lm_head.other", "F16", {1}, 2)});
    cases.push_back({"more dimensions than two", kFormat, "tensor " + kQ + ".weight: expected shape [32, 32], found [32, 32, 1]",
                     tensors([](Tensors& t) { t[kQ + ".weight"].shape.push_back(1); })});
    check_models(cases);
}

TEST_CASE("GPTQ: weights, zero points and scales") {
    check_models({
        {"weight and qweight", kFormat, kQ + " has both weight and qweight", part(kQ + ".weight", "F16", {32, 32}, 2048)},
        {"a quantised embedding", kUnsupported, "model.embed_tokens: a quantised embedding", gptq([](Tensors& t) {
             t.erase("model.embed_tokens.weight");
             t["model.embed_tokens.qweight"] = {"I32", {4, 40}, fuzz::filled(640)};
             t["model.embed_tokens.qzeros"] = {"I32", {1, 5}, fuzz::filled(20, 0x77)};
             t["model.embed_tokens.scales"] = {"F16", {1, 40}, fuzz::filled(80)};
         })},
        {"qweight of floats", kFormat, "tensor " + kQ + ".qweight: expected dtype I32, found F32",
         part(kQ + ".qweight", "F32", {4, 32}, 512)},
        {"qweight of bytes", kFormat, "tensor " + kQ + ".qweight: expected dtype I32", part(kQ + ".qweight", "U8", {4, 32}, 128)},
        {"qweight of one dimension", kFormat, "tensor " + kQ + ".qweight: expected shape [4, 32], found [128]",
         part(kQ + ".qweight", "I32", {128}, 512)},
        {"qweight as AWQ packs it", kUnsupported, "tensor " + kQ + ".qweight: packed along its outputs",
         part(kQ + ".qweight", "I32", {32, 4}, 512)},
        {"qweight of 8 bits", kUnsupported, "tensor " + kQ + ".qweight: 8 bits a weight", part(kQ + ".qweight", "I32", {8, 32}, 1024)},
        {"qweight of 3 bits", kUnsupported, "tensor " + kQ + ".qweight: 3 bits a weight", part(kQ + ".qweight", "I32", {3, 32}, 384)},
        {"qweight of 8 bits that the config allows", kUnsupported, "tensor " + kQ + ".qweight: 8 bits a weight",
         gptq(
             [](Tensors& t) {
                 t[kQ + ".qweight"] = {"I32", {8, 32}, fuzz::filled(1024)};
             },
             ",\"dynamic\":{\".*q_proj\":{\"bits\":8}}")},
        {"qweight with too many rows", kFormat, "tensor " + kQ + ".qweight: expected shape [4, 32], found [400, 32]",
         part(kQ + ".qweight", "I32", {400, 32}, 51200)},
        {"qweight with a column less", kFormat, "tensor " + kQ + ".qweight: expected shape [4, 32], found [4, 31]",
         part(kQ + ".qweight", "I32", {4, 31}, 496)},
        {"qweight that is empty", kFormat, "tensor " + kQ + ".qweight: expected shape [4, 32], found [0, 32]",
         part(kQ + ".qweight", "I32", {0, 32}, 0)},
        {"no scales", kFormat, "tensor " + kQ + ".scales is missing", gptq([](Tensors& t) { t.erase(kQ + ".scales"); })},
        {"scales of integers", kUnsupported, "tensor " + kQ + ".scales: dtype I16", part(kQ + ".scales", "I16", {1, 32}, 64)},
        {"scales of one dimension", kFormat, "tensor " + kQ + ".scales: expected shape [", part(kQ + ".scales", "F16", {32}, 64)},
        {"scales of no dimension", kFormat, "tensor " + kQ + ".scales: expected shape [", part(kQ + ".scales", "F16", {}, 2)},
        {"scales of no group", kFormat, "tensor " + kQ + ".scales: expected shape [1, 32], found [0, 32]",
         part(kQ + ".scales", "F16", {0, 32}, 0)},
        {"scales of more groups than inputs", kFormat, "tensor " + kQ + ".scales: expected shape [",
         part(kQ + ".scales", "F16", {33, 32}, 2112)},
        {"scales of groups that no size gives", kUnsupported, "tensor " + kDown + ".scales: 5 groups of 64 inputs",
         part(kDown + ".scales", "F16", {5, 32}, 320)},
        {"scales with a column less", kFormat, "tensor " + kQ + ".scales: expected shape [1, 32], found [1, 31]",
         part(kQ + ".scales", "F16", {1, 31}, 62)},
        {"no zero points", kFormat, "tensor " + kQ + ".qzeros is missing", gptq([](Tensors& t) { t.erase(kQ + ".qzeros"); })},
        {"zero points of floats", kFormat, "tensor " + kQ + ".qzeros: expected dtype I32", part(kQ + ".qzeros", "F16", {1, 8}, 16)},
        {"zero points of too few groups", kFormat, "tensor " + kDown + ".qzeros: expected shape [2, 4], found [1, 4]",
         part(kDown + ".qzeros", "I32", {1, 4}, 16)},
        {"zero points that are not packed", kFormat, "tensor " + kQ + ".qzeros: expected shape [1, 4], found [1, 32]",
         part(kQ + ".qzeros", "I32", {1, 32}, 128)},
        {"g_idx with a negative group", kFormat, "tensor " + kDown + ".g_idx: element 5 is -1, expected 0 to 1",
         g_idx([](int32_t k) { return k == 5 ? -1 : k / 32; })},
        {"g_idx with the most negative group", kFormat, "tensor " + kDown + ".g_idx: element 0 is -2147483648",
         g_idx([](int32_t k) { return k == 0 ? INT32_MIN : k / 32; })},
        {"g_idx with a group too many", kFormat, "tensor " + kDown + ".g_idx: element 63 is 2, expected 0 to 1",
         g_idx([](int32_t k) { return k == 63 ? 2 : k / 32; })},
        {"g_idx with a huge group", kFormat, "tensor " + kDown + ".g_idx: element 9 is 2147483647",
         g_idx([](int32_t k) { return k == 9 ? INT32_MAX : k / 32; })},
        {"g_idx with uneven groups", kUnsupported, kDown + ": group 0 of g_idx has 33 columns, expected 32",
         g_idx([](int32_t k) { return k <= 32 ? 0 : 1; })},
        {"g_idx with one group only", kUnsupported, kDown + ": group 0 of g_idx has 0 columns", g_idx([](int32_t) { return 1; })},
        {"g_idx that is too short", kFormat, "tensor " + kDown + ".g_idx: expected shape [64], found [63]",
         g_idx([](int32_t k) { return k / 32; }, 63)},
        {"g_idx that is too long", kFormat, "tensor " + kDown + ".g_idx: expected shape [64], found [65]",
         g_idx([](int32_t k) { return k / 33; }, 65)},
        {"g_idx that is empty", kFormat, "tensor " + kDown + ".g_idx: expected shape [64], found [0]",
         g_idx([](int32_t k) { return k; }, 0)},
        {"g_idx of 64 bits", kFormat, "tensor " + kDown + ".g_idx: expected dtype I32, found I64",
         part(kDown + ".g_idx", "I64", {64}, 512)},
        {"g_idx of floats", kFormat, "tensor " + kDown + ".g_idx: expected dtype I32, found F32", part(kDown + ".g_idx", "F32", {64}, 256)},
        {"no g_idx, and desc_act", kFormat, "tensor " + kDown + ".g_idx is missing, and desc_act is true",
         gptq([](Tensors&) {}, ",\"desc_act\":true")},
    });
}

TEST_CASE("GPTQ: a good one loads, and so does one with the columns in another order") {
    for (const Folder& folder : {gptq([](Tensors&) {}), g_idx([](int32_t k) { return k % 2; }), g_idx([](int32_t) { return 0; })}) {
        Host host;
        host.disk.put("m", folder);
        pith_model* model = nullptr;
        pith_error error{};
        CHECK(pith_model_open(host.env(), "m", nullptr, &model, &error) == PITH_OK);
        INFO(error.message);
        CHECK(pith_model_load(model, 0, nullptr, &error) == PITH_OK);
        pith_model_destroy(model);
    }
}

TEST_CASE("values that are found while loading") {
    struct Bad {
        const char* name;
        std::string tensor, file_tensor;
        const char* dtype;
        Bytes value;
        uint32_t flags;
    };
    const Bad bads[] = {
        {"a NaN scale", kQ + ".scales", kQ, "F16", bytes_of<uint16_t>({0x7e00}), 0},
        {"a signalling NaN scale", kDown + ".scales", kDown, "F16", bytes_of<uint16_t>({0xfc01}), 0},
        {"an infinite scale", kQ + ".scales", kQ, "F16", bytes_of<uint16_t>({0x7c00}), 0},
        {"a NaN scale, BF16", kQ + ".scales", kQ, "BF16", bytes_of<uint16_t>({0x7fc0}), 0},
        {"a negative infinite scale, BF16", kQ + ".scales", kQ, "BF16", bytes_of<uint16_t>({0xff80}), 0},
        {"a NaN weight, asked for", kLayer + "mlp.up_proj.weight", "", "F16", bytes_of<uint16_t>({0x7e00}), PITH_MODEL_SCAN},
        {"an infinite norm, asked for", "model.norm.weight", "", "F16", bytes_of<uint16_t>({0x7c00}), PITH_MODEL_SCAN},
        {"an infinite embedding, asked for", "model.embed_tokens.weight", "", "F16", bytes_of<uint16_t>({0xfc00}), PITH_MODEL_SCAN},
    };
    for (const Bad& bad : bads)
        for (const uint64_t budget : {uint64_t{0}, uint64_t{1}}) {
            INFO(bad.name << ", budget " << budget);
            Host host;
            host.disk.put("m", gptq([&](Tensors& t) {
                              Tensor& tensor = t[bad.tensor];
                              tensor.dtype = bad.dtype;
                              tensor.data.replace(tensor.data.size() - bad.value.size(), bad.value.size(), bad.value);
                          }));
            pith_model_options options{};
            options.struct_size = sizeof options;
            options.flags = bad.flags;
            pith_model* model = nullptr;
            REQUIRE(pith_model_open(host.env(), "m", &options, &model, nullptr) == PITH_OK);
            pith_error error{};
            uint64_t left = 1;
            pith_status status = PITH_OK;
            while (left && status == PITH_OK) status = pith_model_load(model, budget, &left, &error);
            CHECK(status == PITH_E_FORMAT);
            check_message(error, status, bad.tensor + ": value ");
            pith_session* session = nullptr;
            CHECK(pith_session_create(model, nullptr, &session, nullptr) == PITH_E_STATE);
            pith_model_destroy(model);
        }
}

TEST_CASE("files that fail, shrink or vanish between open and load") {
    Host host;
    host.disk.put("m", gptq([](Tensors&) {}));
    pith_model* model = nullptr;
    REQUIRE(pith_model_open(host.env(), "m", nullptr, &model, nullptr) == PITH_OK);
    Bytes& file = host.disk.files["m/model.safetensors"];
    const Bytes whole = file;
    pith_error error{};
    uint64_t left = 0;
    for (const size_t size : {size_t{0}, size_t{8}, whole.size() / 2, whole.size() - 1}) {
        INFO("cut to " << size);
        file.resize(size);
        pith_status status = PITH_OK;
        for (left = 1; left && status == PITH_OK;) status = pith_model_load(model, 4096, &left, &error);
        CHECK(status == PITH_E_IO);
        check_message(error, status, "m/model.safetensors: can't read model.");
        CHECK(error.system == 6);
        file = whole;
    }
    host.disk.broken = "m/model.safetensors";
    CHECK(pith_model_load(model, 0, &left, &error) == PITH_E_IO);
    CHECK(error.system == 5);
    host.disk.broken = "";
    CHECK(pith_model_load(model, 0, &left, &error) == PITH_OK);  // goes on where it was
    CHECK(left == 0);
    CHECK(host.disk.open_files <= 1);
    pith_model_destroy(model);
}

TEST_CASE("files whose reads fail at open") {
    Folder folder = gptq([](Tensors&) {});
    folder["model.safetensors.index.json"] = "{\"weight_map\":{\"model.norm.weight\":\"model.safetensors\"}}";
    for (const auto& [name, bytes] : folder) {
        INFO(name);
        Host host;
        host.disk.put("m", folder);
        host.disk.broken = "m/" + name;
        pith_model* model = nullptr;
        pith_error error{};
        CHECK(pith_model_open(host.env(), "m", nullptr, &model, &error) == PITH_E_IO);
        CHECK(model == nullptr);
        CHECK(error.system == 5);
        check_message(error, PITH_E_IO, "m/" + name + ": can't read");
        CHECK(host.disk.open_files == 0);
        host.disk.broken = "";
        CHECK(pith_model_open(host.env(), "m", nullptr, &model, &error) == PITH_OK);
        pith_model_destroy(model);
    }
}
