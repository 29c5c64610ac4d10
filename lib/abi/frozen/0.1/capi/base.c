/* <pith/base.h> */
#include "capi.h"

int main(void) {
    int32_t status;
    capi_use();
    CHECK(pith_version() == PITH_VERSION_MAJOR * 1000000u + PITH_VERSION_MINOR * 1000u + PITH_VERSION_PATCH);
    CHECK(sizeof(pith_error) == 512);
    CHECK(sizeof(pith_sampler_step) == 64);
    CHECK(sizeof(pith_stream) == 32);
    CHECK(strcmp(pith_status_name(PITH_OK), "PITH_OK") == 0);
    CHECK(strcmp(pith_status_name(PITH_E_MEMORY), "PITH_E_MEMORY") == 0);
    for (status = PITH_E_NUMERIC; status <= PITH_PENDING; status++) CHECK(strncmp(pith_status_name(status), "PITH_", 5) == 0);
    for (status = PITH_E_NUMERIC; status < PITH_PENDING; status++) CHECK(strcmp(pith_status_name(status), pith_status_name(status + 1)) != 0);
    CHECK(strcmp(pith_status_name(PITH_E_NUMERIC - 1), "PITH_E_?") == 0);
    CHECK(strcmp(pith_status_name(1000), "PITH_E_?") == 0);
    return capi_end();
}
