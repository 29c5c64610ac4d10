// Hostile paths, and the operating system's files: folders, links, pipes, files cut short under the reader.
#include "hostile.h"

#ifndef _WIN32
#    include <sys/stat.h>
#    include <unistd.h>
#endif

using namespace hostile;

TEST_CASE("paths that lead nowhere") {
    pith_env* env = nullptr;
    REQUIRE(pith_env_create(nullptr, &env, nullptr) == PITH_OK);
    const std::string paths[] = {
        "",     "/",         "no/such/folder",      "\xff\xfe\x80", "\xed\xa0\x80/x", "%s%n%s%n", std::string(5000, 'x'),
        "\n\t", "/dev/null", std::string(200, '/'), "a\x7f\x1b[31m"};
    for (const std::string& path : paths) {
        INFO(path.substr(0, 20));
        pith_error error{};
        pith_model* model = nullptr;
        pith_tokenizer* tokenizer = nullptr;
        pith_status status = pith_model_open(env, path.c_str(), nullptr, &model, &error);
        CHECK(status == PITH_E_IO);
        CHECK(error.system != 0);
        CHECK(model == nullptr);
        check_message(error, status, path.size() > 1000 ? "xxx" : "can't be opened");
        status = pith_tokenizer_load(env, path.c_str(), &tokenizer, &error);
        CHECK(status == PITH_E_IO);
        CHECK(tokenizer == nullptr);
        check_message(error, status, path.size() > 1000 ? "xxx" : "can't be opened");
    }
    pith_env_destroy(env);
}

TEST_CASE("what is NULL or no option is named") {
    Host host;
    host.disk.put("m", good_model());
    pith_error error{};
    pith_model* model = nullptr;
    pith_tokenizer* tokenizer = nullptr;
    const auto refused = [&](pith_status status, pith_status expected, const char* culprit) {
        CHECK(status == expected);
        check_message(error, status, culprit);
        CHECK(model == nullptr);
        CHECK(tokenizer == nullptr);
    };
    refused(pith_model_open(nullptr, "m", nullptr, &model, &error), PITH_E_ARGUMENT, "env is NULL");
    refused(pith_model_open(host.env(), nullptr, nullptr, &model, &error), PITH_E_ARGUMENT, "path is NULL");
    refused(pith_model_open(host.env(), "m", nullptr, nullptr, &error), PITH_E_ARGUMENT, "model is NULL");
    refused(pith_tokenizer_load(host.env(), nullptr, &tokenizer, &error), PITH_E_ARGUMENT, "path is NULL");
    pith_model_options options{};
    refused(pith_model_open(host.env(), "m", &options, &model, &error), PITH_E_ARGUMENT, "options.struct_size is 0");
    options.struct_size = sizeof options;
    options.device = 0xffffffff;
    refused(pith_model_open(host.env(), "m", &options, &model, &error), PITH_E_ARGUMENT, "options.device is 4294967295");
    options.device = 0;
    options.flags = 0x80000000;
    refused(pith_model_open(host.env(), "m", &options, &model, &error), PITH_E_UNSUPPORTED, "options.flags is 0x80000000");
    options.flags = PITH_MODEL_MMAP;
    // The caller's files can't be mapped.
    refused(pith_model_open(host.env(), "m", &options, &model, &error), PITH_E_ARGUMENT, "m/model.safetensors");
}

TEST_CASE("a tokenizer's files whose reads fail") {
    const Folder folder{{"tokenizer.json", "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}"},
                        {"tokenizer_config.json", "{}"},
                        {"special_tokens_map.json", "{}"},
                        {"config.json", "{}"},
                        {"generation_config.json", "{}"},
                        {"chat_template.jinja", "x"}};
    for (const auto& [name, bytes] : folder) {
        INFO(name);
        Host host;
        host.disk.put("m", folder);
        host.disk.broken = "m/" + name;
        pith_tokenizer* tokenizer = nullptr;
        pith_error error{};
        const pith_status status = pith_tokenizer_load(host.env(), "m", &tokenizer, &error);
        CHECK(status == PITH_E_IO);
        CHECK(tokenizer == nullptr);
        check_message(error, status, "m/" + name + ": can't read");
        CHECK(host.disk.open_files == 0);
        host.disk.broken = "";
        CHECK(pith_tokenizer_load(host.env(), "m", &tokenizer, &error) == PITH_OK);
        pith_tokenizer_destroy(tokenizer);
    }
}

#ifndef _WIN32
namespace {

// A folder of the system's, gone with all in it at the end.
class RealFolder {
public:
    RealFolder() {
        char name[] = "/tmp/pith-hostile-XXXXXX";
        REQUIRE(mkdtemp(name));
        path = name;
    }
    ~RealFolder() {
        for (const char* name : {"config.json", "model.safetensors", "other", "tokenizer.json"})
            if (unlink(at(name).c_str()) != 0) rmdir(at(name).c_str());
        rmdir(path.c_str());
    }
    std::string at(const std::string& name) const { return path + "/" + name; }
    void write(const std::string& name, const Bytes& bytes) const {
        FILE* file = fopen(at(name).c_str(), "wb");
        REQUIRE(file);
        CHECK(fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size());
        fclose(file);
    }

    std::string path;
};

struct RealHost {
    RealHost() {
        REQUIRE(pith_env_create(nullptr, &env, nullptr) == PITH_OK);
        for (const auto& [name, bytes] : good_model()) folder.write(name, bytes);
    }
    ~RealHost() {
        pith_model_destroy(model);
        pith_env_destroy(env);
    }
    pith_status open() { return pith_model_open(env, folder.path.c_str(), nullptr, &model, &error); }

    RealFolder folder;
    pith_env* env = nullptr;
    pith_model* model = nullptr;
    pith_error error{};
};

}  // namespace

TEST_CASE("a file of the system's cut short between open and load") {
    RealHost host;
    const Bytes whole = good_model()["model.safetensors"];
    REQUIRE(host.open() == PITH_OK);
    REQUIRE(truncate(host.folder.at("model.safetensors").c_str(), static_cast<off_t>(whole.size() - 1)) == 0);
    uint64_t left = 0;
    CHECK(pith_model_load(host.model, 0, &left, &host.error) == PITH_E_IO);
    check_message(host.error, PITH_E_IO, "/model.safetensors: can't read");
    host.folder.write("model.safetensors", whole);  // the same file again: loading goes on
    CHECK(pith_model_load(host.model, 0, &left, &host.error) == PITH_OK);
    CHECK(left == 0);
}

TEST_CASE("things of the system's that are no files") {
    const auto refused = [](RealHost& host, const std::string& name) {
        const pith_status status = host.open();
        CHECK(status == PITH_E_IO);
        CHECK(host.error.system != 0);
        check_message(host.error, status, host.folder.at(name) + ": can't be opened");
        CHECK(host.model == nullptr);
    };
    for (const char* name : {"config.json", "model.safetensors"}) {
        INFO(name);
        {
            RealHost host;
            unlink(host.folder.at(name).c_str());
            REQUIRE(mkdir(host.folder.at(name).c_str(), 0700) == 0);
            refused(host, name);
        }
        {
            RealHost host;  // a pipe that nobody writes to must not hold the caller up
            unlink(host.folder.at(name).c_str());
            REQUIRE(mkfifo(host.folder.at(name).c_str(), 0600) == 0);
            refused(host, name);
        }
        {
            RealHost host;
            unlink(host.folder.at(name).c_str());
            REQUIRE(symlink(name, host.folder.at(name).c_str()) == 0);  // to itself
            refused(host, name);
        }
        {
            RealHost host;
            unlink(host.folder.at(name).c_str());
            REQUIRE(symlink("/dev/zero", host.folder.at(name).c_str()) == 0);
            refused(host, name);
        }
    }
}

TEST_CASE("a model's folder that is a file") {
    RealHost host;
    pith_model* model = nullptr;
    const std::string path = host.folder.at("model.safetensors");
    const pith_status status = pith_model_open(host.env, path.c_str(), nullptr, &model, &host.error);
    CHECK(status == PITH_E_UNSUPPORTED);
    check_message(host.error, status, path + ": a file, expected a folder");
}
#endif
