// The system's files, File over a caller's files, mapping, and path joining.
#include "io/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "base_memory.h"
#include "catch.h"
#include "io/mapping.h"
#include "memory_files.h"

using namespace pith;
using std::string;

namespace {

// A folder that goes away with its content.
struct TempDir {
    string path;
    TempDir() {
        char name[] = "/tmp/pith-io-XXXXXX";
        path = mkdtemp(name);
    }
    ~TempDir() {
        const string command = "rm -rf '" + path + "'";
        if (system(command.c_str()) != 0) perror("rm");
    }
    string write(const string& name, const string& content) const {
        const string file = path + "/" + name;
        FILE* f = fopen(file.c_str(), "wb");
        REQUIRE(f);
        REQUIRE(fwrite(content.data(), 1, content.size(), f) == content.size());
        fclose(f);
        return file;
    }
};

}  // namespace

TEST_CASE("files: the system's are read at offsets") {
    TempDir dir;
    const string path = dir.write("a", "0123456789");
    pith_error error{};
    File file;
    REQUIRE(file.open(kSystemFiles, path.c_str(), &error) == PITH_OK);
    CHECK(file.size() == 10);
    char bytes[5] = {};
    CHECK(file.read(3, bytes, 4, "x", &error) == PITH_OK);
    CHECK(string(bytes) == "3456");
    CHECK(file.read(10, bytes, 0, "x", &error) == PITH_OK);
    CHECK(file.read(8, bytes, 3, "the tail", &error) == PITH_E_FORMAT);
    CHECK(string(error.message).find("the tail ends past the end") != string::npos);
    CHECK(string(error.message).find(path) != string::npos);
    CHECK(file.read(~uint64_t{0}, bytes, 1, "x", &error) == PITH_E_FORMAT);
    CHECK(file.read(1, bytes, ~size_t{0}, "x", &error) == PITH_E_FORMAT);
}

TEST_CASE("files: what can't be opened says why") {
    TempDir dir;
    pith_error error{};
    File file;
    const string missing = dir.path + "/missing";
    CHECK(file.open(kSystemFiles, missing.c_str(), &error) == PITH_E_IO);
    CHECK(error.system == ENOENT);
    CHECK(string(error.message).find(missing) != string::npos);
    CHECK_FALSE(file.is_open());
    CHECK(file.open(kSystemFiles, dir.path.c_str(), &error) == PITH_E_IO);
    CHECK(error.system == EISDIR);
    CHECK(file.open(kSystemFiles, "/dev/null", &error) == PITH_E_IO);
    const string fifo = dir.path + "/fifo";
    REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
    CHECK(file.open(kSystemFiles, fifo.c_str(), &error) == PITH_E_IO);  // and does not wait for a writer
    CHECK_FALSE(file_exists(kSystemFiles, missing.c_str()));
    CHECK(file_exists(kSystemFiles, dir.write("there", "").c_str()));
}

TEST_CASE("files: a file cut while open is an I/O error") {
    TempDir dir;
    const string path = dir.write("a", string(100, 'x'));
    File file;
    pith_error error{};
    REQUIRE(file.open(kSystemFiles, path.c_str(), &error) == PITH_OK);
    REQUIRE(truncate(path.c_str(), 50) == 0);
    char bytes[100];
    CHECK(file.read(0, bytes, 100, "x", &error) == PITH_E_IO);
    CHECK(error.system == EIO);
}

TEST_CASE("files: moving, closing and reopening keep count") {
    MemoryFiles memory;
    memory["a"] = "aaa";
    memory["b"] = "bb";
    pith_error error{};
    {
        File a, b;
        REQUIRE(a.open(memory.files, "a", &error) == PITH_OK);
        REQUIRE(b.open(memory.files, "b", &error) == PITH_OK);
        CHECK(memory.open_files == 2);
        b = std::move(a);
        CHECK(memory.open_files == 1);
        CHECK(b.size() == 3);
        File c(std::move(b));
        CHECK(c.size() == 3);
        CHECK(c.open(memory.files, "missing", &error) == PITH_E_IO);
        CHECK(c.size() == 3);  // as before
        CHECK(c.open(memory.files, "b", &error) == PITH_OK);
        CHECK(c.size() == 2);
        CHECK(memory.open_files == 1);
        char byte;
        memory.fail_call = memory.calls;
        CHECK(c.read(0, &byte, 1, "x", &error) == PITH_E_IO);
        CHECK(error.system == 5);
    }
    CHECK(memory.open_files == 0);
}

TEST_CASE("files: whole files") {
    TestMemory memory;
    MemoryFiles files;
    files["dir/a"] = "hello";
    files["empty"] = "";
    pith_error error{};
    Array<char> bytes(memory.allocator);
    REQUIRE(read_file(files.files, "dir/a", 5, &bytes, &error) == PITH_OK);
    CHECK(string(bytes.data(), bytes.size()) == "hello");
    CHECK(read_file(files.files, "dir/a", 4, &bytes, &error) == PITH_E_LIMIT);
    CHECK(read_file(files.files, "empty", 4, &bytes, &error) == PITH_OK);
    CHECK(bytes.empty());
    CHECK(read_file(files.files, "none", 4, &bytes, &error) == PITH_E_IO);
    memory.fail_at = memory.allocations;
    Array<char> other(memory.allocator);
    CHECK(read_file(files.files, "dir/a", 5, &other, &error) == PITH_E_MEMORY);
    CHECK(files.open_files == 0);

    bool found = true;
    CHECK(read_optional_file(files.files, "none", 4, &bytes, &found, &error) == PITH_OK);
    CHECK_FALSE(found);
    CHECK(read_optional_file(files.files, "dir/a", 9, &bytes, &found, &error) == PITH_OK);
    CHECK(found);
    TempDir dir;
    CHECK(read_optional_file(kSystemFiles, (dir.path + "/none").c_str(), 4, &bytes, &found, &error) == PITH_OK);
    CHECK_FALSE(found);
    CHECK(read_optional_file(kSystemFiles, dir.path.c_str(), 4, &bytes, &found, &error) == PITH_E_IO);  // there, but unreadable
}

TEST_CASE("files: joined paths") {
    TestMemory memory;
    Arena arena(memory.allocator);
    CHECK(string(join_path(arena, "a/b", "c")) == "a/b/c");
    CHECK(string(join_path(arena, "a/", "c")) == "a/c");
    CHECK(string(join_path(arena, "", "c")) == "c");
    CHECK(string(join_path(arena, "/", "c")) == "/c");
}

TEST_CASE("mapping: a system file's bytes, nobody else's") {
    TempDir dir;
    const string path = dir.write("a", "mapped");
    const string empty = dir.write("e", "");
    pith_error error{};
    File file;
    REQUIRE(file.open(kSystemFiles, path.c_str(), &error) == PITH_OK);
    Mapping mapping;
    REQUIRE(mapping.map(file, &error) == PITH_OK);
    CHECK(string(reinterpret_cast<const char*>(mapping.data()), 6) == "mapped");
    file.close();
    CHECK(mapping.data()[0] == 'm');
    Mapping moved(std::move(mapping));
    CHECK(mapping.data() == nullptr);
    CHECK(moved.data()[5] == 'd');
    REQUIRE(file.open(kSystemFiles, empty.c_str(), &error) == PITH_OK);
    CHECK(moved.map(file, &error) == PITH_OK);
    CHECK(moved.data() == nullptr);

    MemoryFiles memory;
    memory["a"] = "x";
    File other;
    REQUIRE(other.open(memory.files, "a", &error) == PITH_OK);
    CHECK(moved.map(other, &error) == PITH_E_ARGUMENT);
    CHECK(moved.map(File(), &error) == PITH_E_ARGUMENT);
}
