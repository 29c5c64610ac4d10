/* The functions of the driver that loading a model does not call. */
#define REFUSES(name) \
    int name(void);   \
    int name(void) { return 801; /* CUDA_ERROR_NOT_SUPPORTED */ }
REFUSES(cuCtxGetStreamPriorityRange)
REFUSES(cuMemcpyDtoHAsync_v2)
REFUSES(cuMemcpyDtoDAsync_v2)
REFUSES(cuMemsetD32Async)
REFUSES(cuStreamQuery)
REFUSES(cuStreamWaitEvent)
REFUSES(cuStreamGetCtx)
REFUSES(cuOccupancyMaxActiveBlocksPerMultiprocessor)
REFUSES(cuStreamBeginCapture_v2)
REFUSES(cuStreamEndCapture)
REFUSES(cuGraphInstantiateWithFlags)
REFUSES(cuGraphLaunch)
REFUSES(cuGraphUpload)
REFUSES(cuGraphExecUpdate_v2)
REFUSES(cuGraphExecDestroy)
REFUSES(cuGraphDestroy)
REFUSES(cuGraphGetNodes)
REFUSES(cuGraphKernelNodeGetParams_v2)
REFUSES(cuGraphExecKernelNodeSetParams_v2)
