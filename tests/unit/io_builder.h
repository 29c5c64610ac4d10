// Building safetensors files in memory, for tests.
#pragma once
#include <stdint.h>
#include <string.h>

#include <string>
#include <vector>

inline std::string le64(uint64_t value) {
    std::string bytes(8, '\0');
    for (int i = 0; i < 8; i++) bytes[static_cast<size_t>(i)] = static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
    return bytes;
}

// A file with this header and data, whatever they are.
inline std::string raw_safetensors(const std::string& header, const std::string& data) { return le64(header.size()) + header + data; }

template <class T>
std::string bytes_of(const std::vector<T>& values) {
    std::string bytes(values.size() * sizeof(T), '\0');
    if (!values.empty()) memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
}

// Well-formed files, tensor after tensor.
class SafetensorsBuilder {
public:
    void add(const std::string& name, const std::string& dtype, const std::vector<uint64_t>& shape, const std::string& data) {
        std::string entry = "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[";
        for (size_t i = 0; i < shape.size(); i++) entry += (i ? "," : "") + std::to_string(shape[i]);
        entry += "],\"data_offsets\":[" + std::to_string(data_.size()) + "," + std::to_string(data_.size() + data.size()) + "]}";
        header_ += (header_.empty() ? "" : ",") + entry;
        data_ += data;
    }
    std::string build() const { return raw_safetensors("{" + header_ + "}", data_); }

private:
    std::string header_, data_;
};
